import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { type AbortScope, abortReason, abortScope, raceAbort, shuttingDown, sleep } from '../lib/abort.js'
import { messageOf } from '../lib/thrown.js'
import { type Datagram, decodeDatagram, formatFlow } from './datagram.js'
import type { Sink } from './sink.js'
import type { WriterSpec } from './writer-spec.js'

/** What a writer has done since it was opened. */
export interface WriterCounters {
  readonly flows: number
  /** As they left, compressed or not. */
  readonly bytes: number
  /** Flows that found the queue full, were lost in a write that failed, or were still in the queue when it was closed. */
  readonly droppedFlows: number
  /** Flows in the queue or being written. */
  readonly queuedFlows: number
  /** Why flows are not written, or not as fast as they come; empty while all is well. */
  readonly problem: string
}

export interface WriterOptions {
  readonly spec: WriterSpec
  readonly open: (signal: AbortSignal) => Promise<Sink>
  /** Told why nothing is being written; of one problem again and again, once a minute. */
  readonly onProblem?: (problem: string) => void
  readonly retryMs?: number
}

/** Datagrams of one writer that wait: some 7 MB of full ones. */
export const maxQueuedDatagrams = 4_096

/** A datagram that waits. Its flows are decoded again when they are written: decoded they are five times as large. */
interface Queued {
  readonly bytes: Buffer
  readonly flowCount: number
}

/** At once, to what takes a stream of bytes. */
const maxBatchBytes = 65_536
/** Lines within one UDP datagram: what an Ethernet frame holds, less room for a tunnel. */
const maxLinesBytes = 1_400

/** Of a place that takes nothing any more, or less than comes. */
const overrun = 'flows come faster than they are taken'

const usualRetryMs = 1_000
const tellAgainMs = 60_000
/** For what is queued when the writer is closed. */
const flushMs = 1_000

const compress = promisify(gzip)

/**
 * Carries flows to one place, at the pace of that place. Offering never waits: what finds the queue full is dropped and
 * counted. When the place fails, it is opened again every second; what was in the failed write counts as dropped.
 */
export class Writer implements AsyncDisposable {
  readonly spec: WriterSpec
  readonly #options: WriterOptions
  readonly #queue: Queued[] = []
  readonly #scope: AbortScope = abortScope()
  readonly #done: Promise<void>
  #sink: Sink | undefined
  #closing = false
  #closed = false
  #wake: () => void = () => {}
  #flows = 0
  #bytes = 0
  #droppedFlows = 0
  #queuedFlows = 0
  #problem = ''
  #told = { problem: '', atMs: 0 }

  constructor(options: WriterOptions) {
    this.spec = options.spec
    this.#options = options
    this.#done = this.#run()
  }

  get counters(): WriterCounters {
    return {
      flows: this.#flows,
      bytes: this.#bytes,
      droppedFlows: this.#droppedFlows,
      queuedFlows: this.#queuedFlows,
      problem: this.#problem,
    }
  }

  /** Where the datagrams that it sends come from. */
  get localPort(): number | undefined {
    return this.#sink?.localPort
  }

  offer({ bytes, flows }: Datagram): void {
    const flowCount = flows.length
    if (this.#closing || this.#queue.length >= maxQueuedDatagrams) {
      this.#droppedFlows += flowCount
      // One that cannot be opened has said so.
      if (!this.#closing && this.#sink !== undefined && this.#problem === '') this.#tell(overrun)
      return
    }
    this.#queue.push({ bytes, flowCount })
    this.#queuedFlows += flowCount
    this.#wake()
  }

  /** Writes what is queued, for a second at most, and closes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing = true
    this.#wake()
    using flush = abortScope({ deadline: Date.now() + flushMs })
    await raceAbort(this.#done, flush.signal).catch(() => undefined)
    this.#scope.abort(shuttingDown('the writer was closed'))
    await this.#done
    this.#discard()
  }

  /** What was not written by now never will be. */
  #discard(): void {
    this.#closed = true
    this.#queue.length = 0
    this.#droppedFlows += this.#queuedFlows
    this.#queuedFlows = 0
  }

  async #run(): Promise<void> {
    const { signal } = this.#scope
    const { open, retryMs = usualRetryMs } = this.#options
    let wasRefused = false
    while (!signal.aborted) {
      let sink: Sink | undefined
      try {
        sink = await open(signal)
        this.#sink = sink
        // A disk that is full and a UDP peer that is away can be opened all the same: what ends their problem is a write.
        if (wasRefused || this.spec.target.kind === 'tcp') this.#problem = ''
        wasRefused = false
        await raceAbort(this.#feed(sink), signal)
        return
      } catch (error) {
        wasRefused = sink === undefined
        if (!signal.aborted) this.#tell(messageOf(error))
      } finally {
        await closed(sink)
      }
      // Nothing is left to be tried for.
      if (this.#closing && this.#queue.length === 0) return
      await sleep(retryMs, signal).catch(() => undefined)
    }
  }

  #tell(problem: string): void {
    this.#problem = problem
    const nowMs = performance.now()
    if (problem === this.#told.problem && nowMs < this.#told.atMs + tellAgainMs) return
    this.#told = { problem, atMs: nowMs }
    this.#options.onProblem?.(problem)
  }

  /** Until the writer is closed and its queue empty; throws when the sink fails. */
  async #feed(sink: Sink): Promise<void> {
    while (!this.#scope.signal.aborted) {
      if (this.#queue.length === 0) {
        if (this.#closing) return
        await raceAbort(new Promise<void>(resolve => (this.#wake = resolve)), sink.ended)
        continue
      }
      if (sink.ended.aborted) throw abortReason(sink.ended)
      await this.#write(sink, this.#take())
    }
  }

  #take(): Queued[] {
    if (this.spec.target.kind === 'udp') return this.#queue.splice(0, 1)
    let count = 0
    for (let bytes = 0; bytes < maxBatchBytes && count < this.#queue.length; count++) {
      bytes += this.#queue[count]?.bytes.length ?? 0
    }
    return this.#queue.splice(0, count)
  }

  async #write(sink: Sink, batch: readonly Queued[]): Promise<void> {
    const flows = batch.reduce((sum, { flowCount }) => sum + flowCount, 0)
    let written = false
    try {
      for (const plain of encode(this.spec, batch)) {
        const bytes = this.spec.gzip ? await compress(plain) : plain
        await raceAbort(sink.write(bytes), sink.ended)
        this.#bytes += bytes.length
      }
      written = true
    } finally {
      if (!this.#closed) this.#settle(flows, written)
    }
  }

  #settle(flows: number, written: boolean): void {
    this.#queuedFlows -= flows
    if (!written) {
      this.#droppedFlows += flows
      return
    }
    this.#flows += flows
    if (this.#queue.length === 0) this.#problem = ''
  }
}

/** What a sink says when it is closed is of no use to anybody. */
async function closed(sink: Sink | undefined): Promise<void> {
  try {
    await sink?.[Symbol.asyncDispose]()
  } catch {}
}

/** What is written of a batch, write by write. */
function encode({ format, target }: WriterSpec, batch: readonly Queued[]): Buffer[] {
  if (format === 'raw') return [Buffer.concat(batch.map(({ bytes }) => bytes))]
  const lines = batch.flatMap(({ bytes }) => linesOf(bytes))
  return target.kind === 'udp' ? packLines(lines) : [Buffer.from(lines.join(''))]
}

/** Of a datagram that was taken. */
function linesOf(bytes: Buffer): string[] {
  const decoded = decodeDatagram(bytes)
  return decoded.ok ? decoded.value.flows.map(formatFlow) : []
}

function packLines(lines: readonly string[]): Buffer[] {
  const packed: string[] = []
  for (const line of lines) {
    const last = packed.at(-1)
    if (last === undefined || last.length + line.length > maxLinesBytes) packed.push(line)
    else packed[packed.length - 1] = last + line
  }
  return packed.map(text => Buffer.from(text))
}
