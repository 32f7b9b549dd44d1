import { readSync } from 'node:fs'
import { MessagePort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { assertNever } from '../lib/assert-never.js'
import { isRecord } from '../lib/json-rpc.js'
import { foreverMs, type PollSet } from '../lib/poll-set.js'
import { loadSyscalls } from '../lib/syscall.js'
import { messageOf } from '../lib/thrown.js'
import { CaptureError, type CaptureProblem } from './errors.js'
import { FileCapture } from './file-capture.js'
import { loadLibc } from './libc.js'
import { loadLibpcap } from './libpcap.js'
import type { LiveHandle, Natives } from './live-handle.js'
import type { CaptureEnd, FromWorker, StreamChunk, ToWorker } from './messages.js'
import { type Ledger, QuotaView } from './quota.js'
import type { Running, Step } from './running.js'
import { StreamCapture } from './stream-capture.js'

/**
 * The thread that captures. It sits in poll(2) over all devices, and over an eventfd by which it is told that there are
 * messages: its event loop never turns.
 */

/** What the thread is started with. */
export interface CaptureThreadData {
  readonly port: MessagePort
  readonly wakeFd: number
  readonly ledger: Ledger
}

/** A capture, and what is known of it. */
interface Entry {
  readonly id: number
  readonly running: Running
  /** Its last step has left something. */
  more: boolean
  /** Something has come for it. */
  ready: boolean
  /** What is waited for: the reader of a stream may change that at any time. */
  watched: readonly LiveHandle[]
}

function run({ port, wakeFd, ledger }: CaptureThreadData): void {
  const post = (message: FromWorker) => port.postMessage(message)
  let natives: Natives
  try {
    natives = { libc: loadLibc(), libpcap: loadLibpcap(), syscalls: loadSyscalls() }
  } catch (error) {
    post({ type: 'unusable', problem: problemOf(error) })
    return
  }
  post({ type: 'ready' })
  new Loop(natives, port, post, ledger).run(wakeFd)
}

class Loop {
  readonly #natives: Natives
  readonly #port: MessagePort
  readonly #post: (message: FromWorker) => void
  readonly #entries = new Map<number, Entry>()
  readonly #quota: QuotaView
  readonly #polled: PollSet

  constructor(natives: Natives, port: MessagePort, post: (message: FromWorker) => void, ledger: Ledger) {
    this.#natives = natives
    this.#port = port
    this.#post = post
    this.#quota = new QuotaView(ledger, ticket => post({ type: 'measure', ticket }))
    this.#polled = natives.syscalls.newPollSet()
  }

  /** Until it is told to close. */
  run(wakeFd: number): void {
    for (let isTold = true; ; ) {
      // One message a turn: opening and closing a device takes 10 to 30 ms, in which the others' packets wait.
      const message: ToWorker | undefined = isTold ? this.#receive() : undefined
      if (message?.type === 'close') break
      if (message !== undefined) this.#obey(message)
      isTold = this.#wait(wakeFd, message !== undefined) || message !== undefined
      const nowMs = performance.now()
      for (const entry of this.#entries.values()) {
        if (entry.more || entry.ready || entry.running.dueMs <= nowMs) this.#step(entry, nowMs)
      }
    }
    for (const { running } of this.#entries.values()) running.close()
  }

  #receive(): ToWorker | undefined {
    const received: { readonly message: ToWorker } | undefined = receiveMessageOnPort(this.#port)
    return received?.message
  }

  #obey(message: Exclude<ToWorker, { type: 'close' }>): void {
    switch (message.type) {
      case 'start-file': {
        const { id, request, board } = message
        return this.#start(id, () => new FileCapture(this.#natives, request, board, this.#quota))
      }
      case 'start-stream': {
        const { id, request, boards, unread } = message
        const emit = (chunk: StreamChunk) => this.#post({ type: 'chunk', id, chunk })
        return this.#start(id, () => new StreamCapture(this.#natives, request, boards, unread, emit))
      }
      case 'stop':
        this.#entries.get(message.id)?.running.stop(performance.now())
        return
      case 'end-source':
        this.#entries.get(message.id)?.running.endSource?.(message.index, performance.now())
        return
      case 'measured':
        this.#quota.answer(message.ticket)
        for (const entry of this.#entries.values()) entry.more = true
        return
      default:
        assertNever(message)
    }
  }

  #start(id: number, open: () => Running): void {
    try {
      this.#entries.set(id, { id, running: open(), more: true, ready: false, watched: [] })
      this.#post({ type: 'started', id })
    } catch (error) {
      this.#post({ type: 'refused', id, problem: problemOf(error) })
    }
  }

  /** Marks those that something has come for; whether the eventfd says that there are messages. */
  #wait(wakeFd: number, hurry: boolean): boolean {
    this.#polled.clear()
    this.#polled.add(wakeFd)
    for (const entry of this.#entries.values()) {
      entry.watched = entry.running.watched
      for (const live of entry.watched) this.#polled.add(live.socket)
    }
    this.#polled.wait(hurry ? 0 : this.#patienceMs())
    let place = 1
    for (const entry of this.#entries.values()) {
      entry.ready = false
      for (const live of entry.watched) {
        const state = this.#polled.readiness(place++)
        if (state === 'idle') continue
        live.down = state === 'failing'
        entry.ready = true
      }
    }
    if (this.#polled.readiness(0) === 'idle') return false
    readSync(wakeFd, new Uint8Array(8))
    return true
  }

  /** Until a capture is due. */
  #patienceMs(): number {
    let dueMs = Number.POSITIVE_INFINITY
    for (const { more, running } of this.#entries.values()) dueMs = Math.min(dueMs, more ? 0 : running.dueMs)
    return Number.isFinite(dueMs) ? Math.max(Math.ceil(dueMs - performance.now()), 0) : foreverMs
  }

  #step(entry: Entry, nowMs: number): void {
    const step = stepOf(entry.running, nowMs)
    entry.more = step === 'more'
    if (step === 'more' || step === 'waiting') return
    this.#entries.delete(entry.id)
    const unclosed = closed(entry.running)
    if (step.kind === 'refused') this.#post({ type: 'refused', id: entry.id, problem: step.problem })
    else this.#post({ type: 'ended', id: entry.id, end: unclosed ?? step })
  }
}

/** What cannot be gone on with ends a capture, and not the others. */
function stepOf(running: Running, nowMs: number): Step {
  try {
    return running.step(nowMs)
  } catch (error) {
    return failure(error)
  }
}

/** Closes a capture; the end if that fails. What it holds then is given back by the main thread. */
function closed(running: Running): CaptureEnd | undefined {
  try {
    running.close()
    return undefined
  } catch (error) {
    return failure(error)
  }
}

function failure(error: unknown): CaptureEnd {
  return { kind: 'failed', detail: messageOf(error) }
}

function problemOf(error: unknown): CaptureProblem {
  if (error instanceof CaptureError) return error.problem
  return { kind: 'unexpected', detail: error instanceof Error ? (error.stack ?? error.message) : String(error) }
}

function isThreadData(data: unknown): data is CaptureThreadData {
  return (
    isRecord(data) &&
    data['port'] instanceof MessagePort &&
    typeof data['wakeFd'] === 'number' &&
    data['ledger'] instanceof BigInt64Array
  )
}

if (!isThreadData(workerData)) throw new Error('this file is for a worker thread')
run(workerData)
