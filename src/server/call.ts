import type {
  Deadline,
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  ServerUnaryCall,
  ServerWritableStream,
  status,
} from '@grpc/grpc-js'
import { BridgeError } from '../bridge/problem.js'
import { problemOf } from '../bridge/problem-of.js'
import { perTapMs } from '../bridge/reap.js'
import {
  type AbortScope,
  abortedBy,
  abortReason,
  abortScope,
  cancelled,
  deadlineExceeded,
  raceAbort,
  raceGrace,
  shuttingDown,
} from '../lib/abort.js'
import {
  CallLog,
  type CallLogOptions,
  type CallRecord,
  type FailedCall,
  type Refusal,
  type Refused,
} from './call-log.js'
import type { Caller } from './caller.js'
import { methodOf } from './definition.js'
import { type Failure, failure } from './status.js'

export type { Refusal, Refused } from './call-log.js'

/** What a handler learns about its call beside the request. */
export interface Call {
  /** Fires with an `Aborted` when the client goes away, the deadline passes or the service stops; every wait takes it. */
  readonly signal: AbortSignal
  /** Who calls what, for transaction comments: `CreateTap by uid=0 pid=4711`. */
  readonly caller: string
  /** Name of the RPC, for example `CreateTap`. */
  readonly method: string
}

/** A unary RPC. What it throws becomes the status: a `BridgeError` as `status.ts` has it, else INTERNAL. */
export type UnaryHandler<Request, Response> = (request: Request, call: Call) => Promise<Response>

/** A server-streaming RPC: it ends when the iterable does. */
export type StreamHandler<Request, Response> = (request: Request, call: Call) => AsyncIterable<Response>

/** The open streams of one RPC. */
export interface OpenStreams {
  readonly open: number
  /** Of these, those whose reader takes nothing at the moment. */
  readonly held: number
  /** How long the one that has waited longest has waited for its reader. */
  readonly lagMs: number
}

export interface CallsOptions extends CallLogOptions {
  /** Deadline of a unary call whose client set none; 30 s if absent. */
  readonly defaultTimeoutMs?: number
  /** How long a handler may still run, undoing things, once its signal fired; then the call is answered without it. */
  readonly unwindMs?: number
}

export interface UnaryOptions<Request> {
  /** How many taps a call is about, where these may be thousands: one without a deadline has 20 ms more for each. */
  readonly taps?: (request: Request) => number
}

type Surface = ServerUnaryCall<unknown, unknown> | ServerWritableStream<unknown, unknown>

interface Stream {
  readonly method: string
  /** Since when its reader has taken nothing, by performance.now(). */
  heldSinceMs: number | undefined
}

interface Waiting {
  readonly kind: CallRecord['kind']
  readonly end: () => void
}

type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly failure: Failure }

/**
 * A client's reset can arrive this much before the deadline it stands for: our clock starts when we read of it, and a thread that
 * is busy reads later. No more than the log and the metrics rest on it: whoever has reset a call hears no answer.
 */
const deadlineSlackMs = 200

/** All calls that are running. Makes grpc-js handlers out of ours, and ends them when the service stops. */
export class Calls {
  readonly #log: CallLog
  readonly #callers = new WeakMap<Metadata, Caller>()
  readonly #defaultTimeoutMs: number
  readonly #unwindMs: number
  readonly #running = new Map<AbortScope, 'unary' | 'stream'>()
  readonly #streams = new Set<Stream>()
  /** Calls that were let in and whose handler has not begun, or is none of ours. */
  readonly #waiting = new Map<Metadata, Waiting>()
  #phase: 'serves' | 'drains' | 'ends' = 'serves'
  #onIdle: () => void = () => {}

  constructor(options: CallsOptions) {
    this.#log = new CallLog(options)
    this.#defaultTimeoutMs = options.defaultTimeoutMs ?? 30_000
    this.#unwindMs = options.unwindMs ?? 5_000
  }

  /** Calls whose handler has not settled yet. */
  get inFlight(): number {
    return this.#running.size
  }

  /** The streams of an RPC that are open now. */
  openStreams(method: string): OpenStreams {
    const nowMs = performance.now()
    const open = [...this.#streams].filter(stream => stream.method === method)
    const held = open.flatMap(({ heldSinceMs }) => (heldSinceMs === undefined ? [] : [nowMs - heldSinceMs]))
    return { open: open.length, held: held.length, lagMs: Math.max(0, ...held) }
  }

  /** No further calls are to be let in. */
  get isEnding(): boolean {
    return this.#phase !== 'serves'
  }

  /** Takes note of a call that is let in, by its metadata, of whose it is, and of what ends it when the service does. */
  accept(kind: CallRecord['kind'], metadata: Metadata, caller: Caller, end: () => void): void {
    this.#callers.set(metadata, caller)
    this.#waiting.set(metadata, { kind, end })
  }

  /** Of a call that was accepted and is over, whether its handler began or not. */
  leave(metadata: Metadata): void {
    this.#waiting.delete(metadata)
    this.#tellIdle()
  }

  /** Records a request that does not run, and was answered with `failed`. */
  refuse(refused: Refused, failed: Refusal): void {
    this.#log.refused(refused, failed)
  }

  /** Has the log tell of what was refused and not told of yet: for the end, when nothing comes any more. */
  flushLog(): void {
    this.#log.flush()
  }

  /** The grpc-js handler of a unary RPC. */
  unary<Request, Response>(
    handler: UnaryHandler<Request, Response>,
    options: UnaryOptions<Request> = {},
  ): handleUnaryCall<Request, Response> {
    return async (surface, respond) => {
      const timeoutMs = this.#defaultTimeoutMs + perTapMs * (options.taps?.(surface.request) ?? 0)
      const outcome = await this.#run('unary', surface, timeoutMs, call => handler(surface.request, call))
      if (outcome.ok) respond(null, outcome.value)
      else respond(grpcError(outcome.failure))
    }
  }

  /** The grpc-js handler of a server-streaming RPC. It takes the next message only when the last one found room. */
  serverStream<Request, Response>(
    handler: StreamHandler<Request, Response>,
  ): handleServerStreamingCall<Request, Response> {
    return async surface => {
      const outcome = await this.#run('stream', surface, Number.POSITIVE_INFINITY, async call => {
        using stream = this.#open(call.method)
        for await (const message of handler(surface.request, call)) {
          call.signal.throwIfAborted()
          if (!surface.write(message)) await stream.hold(drained(surface, call.signal))
        }
      })
      if (outcome.ok) surface.end()
      else surface.emit('error', grpcError(outcome.failure))
    }
  }

  /**
   * Ends the streams at once, lets unary calls finish for `timeoutMs`, those included that wait to begin, then aborts them and waits
   * until they have undone what they did. Resolves to the number of handlers that run nevertheless.
   */
  async drain(timeoutMs: number): Promise<number> {
    this.#phase = 'drains'
    const idle = new Promise<void>(resolve => (this.#onIdle = resolve))
    this.#abort(kind => kind === 'stream')
    this.#tellIdle()
    await this.#within(idle, timeoutMs)
    this.#phase = 'ends'
    this.#abort(() => true)
    this.#tellIdle()
    await this.#within(idle, this.#unwindMs)
    return this.#running.size
  }

  /** Counts a stream among the open ones until it is disposed of. */
  #open(method: string): Disposable & { hold(room: Promise<void>): Promise<void> } {
    const stream: Stream = { method, heldSinceMs: undefined }
    this.#streams.add(stream)
    return {
      hold: async room => {
        stream.heldSinceMs = performance.now()
        await room
        stream.heldSinceMs = undefined
      },
      [Symbol.dispose]: () => void this.#streams.delete(stream),
    }
  }

  #tellIdle(): void {
    if (this.#running.size + this.#waiting.size === 0) this.#onIdle()
  }

  #abort(which: (kind: CallRecord['kind']) => boolean): void {
    for (const [scope, kind] of this.#running) if (which(kind)) scope.abort(shuttingDown())
    for (const [metadata, { kind, end }] of this.#waiting) {
      if (!which(kind)) continue
      this.#waiting.delete(metadata)
      end()
    }
  }

  async #within(promise: Promise<void>, timeoutMs: number): Promise<void> {
    using scope = abortScope({ deadline: Date.now() + timeoutMs })
    await raceAbort(promise, scope.signal).catch(() => undefined)
  }

  /** One call, whatever its kind: deadline, signal, answer, log line. The only try/catch around a handler. */
  async #run<T>(
    kind: 'unary' | 'stream',
    surface: Surface,
    timeoutMs: number,
    work: (call: Call) => Promise<T>,
  ): Promise<Outcome<T>> {
    const startedAt = performance.now()
    const deadline = deadlineOf(surface, timeoutMs)
    using scope = abortScope({ deadline })
    // Emitted after every call, the answered ones too: hence the off() below. On a deadline the client's reset mostly
    // overtakes our own timer, and only the clock tells the two apart.
    const onCancelled = () => {
      scope.abort(hasPassed(deadline) ? deadlineExceeded() : cancelled())
    }
    surface.once('cancelled', onCancelled)
    const { name } = this.#callers.get(surface.metadata) ?? nobody
    this.#waiting.delete(surface.metadata)
    const path = surface.getPath()
    const method = methodOf(path)
    const call: Call = { signal: scope.signal, caller: `${method} by ${name}`, method }
    let failed: FailedCall | undefined
    try {
      if (this.#phase === 'ends' || (this.#phase === 'drains' && kind === 'stream')) throw shuttingDown()
      const value = await raceGrace(this.#track(kind, scope, work(call)), scope.signal, this.#unwindMs, overdue)
      return { ok: true, value }
    } catch (thrown) {
      const cause = reasonOf(thrown, scope.signal)
      failed = { failure: failure(cause), cause }
      return { ok: false, failure: failed.failure }
    } finally {
      surface.off('cancelled', onCancelled)
      const heard = this.#log.heard(path, surface)
      const ended = { kind, path, caller: name, durationMs: performance.now() - startedAt, heard }
      // The answer leaves with the event loop's own immediates, which run before this: no client waits for the log.
      setImmediate(() => this.#log.ended(ended, failed))
    }
  }

  /** Keeps a handler among the running ones until it has settled, though its call may be answered before. */
  async #track<T>(kind: 'unary' | 'stream', scope: AbortScope, handled: Promise<T>): Promise<T> {
    this.#running.set(scope, kind)
    return await handled.finally(() => {
      this.#running.delete(scope)
      this.#tellIdle()
    })
  }
}

/** Whether a client that is gone had waited until its deadline, as far as can be told. */
export function hasPassed(deadline: Deadline): boolean {
  return Date.now() >= Number(deadline) - deadlineSlackMs
}

/** A call that came in by no door of ours. */
const nobody: Pick<Caller, 'name'> = { name: 'unknown' }

/** A room that only says that it was told to stop does not know why: the signal does. */
function reasonOf(thrown: unknown, signal: AbortSignal): unknown {
  const toldToStop = signal.aborted && problemOf(thrown)?.kind === 'cancelled'
  return toldToStop ? abortReason(signal) : (abortedBy(thrown, signal) ?? thrown)
}

/** Milliseconds since the epoch: the client's deadline where it set one. */
function deadlineOf(surface: Surface, timeoutMs: number): number {
  const given = surface.getDeadline()
  const deadline = given instanceof Date ? given.getTime() : given
  return Number.isFinite(deadline) ? deadline : Date.now() + timeoutMs
}

/** A handler outlived its signal by the whole grace: nobody knows any more what it will have done. */
function overdue(signal: AbortSignal): BridgeError {
  const cause = abortReason(signal)
  return new BridgeError(
    {
      kind: 'outcome-unknown',
      reason: 'OUTCOME_UNKNOWN',
      message: `${cause.message}, and the call did not end in time: what it was to change may or may not have changed`,
    },
    { cause },
  )
}

/** Until the stream takes more. A dead stream never says so, therefore the signal. */
async function drained(surface: ServerWritableStream<unknown, unknown>, signal: AbortSignal): Promise<void> {
  let onDrain = () => {}
  const drain = new Promise<void>(resolve => (onDrain = resolve))
  surface.once('drain', onDrain)
  await raceAbort(drain, signal).finally(() => surface.off('drain', onDrain))
}

function grpcError(failed: Failure): { code: status; details: string; metadata: Failure['metadata'] } {
  return { code: failed.code, details: failed.message, metadata: failed.metadata }
}
