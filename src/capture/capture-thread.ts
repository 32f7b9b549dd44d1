import { closeSync, writeSync } from 'node:fs'
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import { whenAborted } from '../lib/abort.js'
import { assertNever } from '../lib/assert-never.js'
import { EFD_CLOEXEC, errnoName, loadSyscalls } from '../lib/syscall.js'
import type { CaptureThreadData } from './capture-worker.js'
import { CaptureError, type CaptureProblem } from './errors.js'
import {
  type Board,
  type CaptureEnd,
  type FileRequest,
  type FromWorker,
  newBoard,
  readBoard,
  type StreamChunk,
  type StreamRequest,
  type ToWorker,
} from './messages.js'
import type { Quota } from './quota.js'
import { releaseAll } from './release.js'
import { unreadLimitBytes } from './stream-capture.js'
import { StreamReader } from './stream-reader.js'

/** Counters of a capture as they are now. */
export interface Counters {
  readonly packets: bigint
  readonly fileBytes: bigint
  readonly dropped: bigint
}

/** A capture to a file that was started. */
export interface RunningCapture {
  counters(): Counters
  /** Ends it; what has come before is still written. */
  stop(): void
  /** Resolves when the file is closed. Never rejects. */
  readonly ended: Promise<CaptureEnd>
}

/** What is told of one capture. */
interface Told {
  readonly boards: readonly Board[]
  started(): void
  refused(error: CaptureError): void
  chunk(chunk: StreamChunk): void
  ended(end: CaptureEnd): void
}

/** One worker thread with what it captures. */
export class CaptureThread {
  readonly #worker: Worker
  readonly #port: MessagePort
  readonly #wakeFd: number
  readonly #quota: Quota
  readonly #captures = new Map<number, Told>()
  readonly #exited: Promise<void>
  readonly ready: Promise<void>
  #over: CaptureProblem | undefined
  #settleReady: (problem: CaptureProblem | undefined) => void = () => {}

  /** Throws CaptureError. */
  constructor(quota: Quota, onExit: () => void) {
    this.#quota = quota
    this.#wakeFd = loadSyscalls().eventfd(0, EFD_CLOEXEC)
    if (this.#wakeFd < 0)
      throw new CaptureError({ kind: 'exhausted', detail: `the kernel gives no eventfd: ${errnoName(-this.#wakeFd)}` })
    const { port1, port2 } = new MessageChannel()
    this.#port = port1
    const data: CaptureThreadData = { port: port2, wakeFd: this.#wakeFd, ledger: quota.ledger }
    this.#worker = new Worker(new URL('./capture-worker.js', import.meta.url), {
      workerData: data,
      transferList: [port2],
      // Files that it opens are closed by the C library, of which Node knows nothing.
      trackUnmanagedFds: false,
    })
    this.ready = new Promise((resolve, reject) => {
      this.#settleReady = problem => {
        if (problem === undefined) resolve()
        else reject(new CaptureError(problem))
      }
    })
    let detail = ''
    this.#worker.on('error', error => {
      detail = error.message
    })
    this.#exited = new Promise(resolve => {
      this.#worker.once('exit', code => {
        onExit()
        void this.#die(detail || `exit code ${code}`).then(resolve)
      })
    })
    this.#port.on('message', (message: FromWorker) => this.#take(message))
    this.#worker.unref()
    this.#port.unref()
    // Node waits for its threads, and this one would sit in poll(2) for ever.
    process.once('exit', this.#requestClose)
  }

  startFile(id: number, request: FileRequest): Promise<RunningCapture> {
    const board = newBoard()
    return new Promise((resolve, reject) => {
      let end: (end: CaptureEnd) => void = () => {}
      const ended = new Promise<CaptureEnd>(settle => (end = settle))
      this.#begin(id, {
        boards: [board],
        started: () => {
          resolve({
            counters: () => ({
              packets: readBoard(board, 'packets'),
              fileBytes: readBoard(board, 'fileBytes'),
              dropped: readBoard(board, 'dropped'),
            }),
            stop: () => this.#post({ type: 'stop', id }),
            ended,
          })
        },
        refused: error => {
          if (readBoard(board, 'fdTaken') === 0n) closeSync(request.file.fd)
          reject(error)
        },
        chunk: () => {},
        ended: end,
      })
      this.#post({ type: 'start-file', id, request, board })
    })
  }

  async *stream(
    id: number,
    request: StreamRequest,
    gone: readonly AbortSignal[],
    signal: AbortSignal,
  ): AsyncGenerator<StreamChunk, CaptureEnd> {
    const boards = request.sources.map(newBoard)
    const unread = new Int32Array(new SharedArrayBuffer(4))
    const reader = new StreamReader()
    this.#begin(id, {
      boards,
      started: () => {},
      refused: error => reader.settle({ error }),
      chunk: chunk => reader.push(chunk),
      ended: end =>
        reader.settle(
          end.kind === 'failed' ? { error: new CaptureError({ kind: 'unexpected', detail: end.detail }) } : { end },
        ),
    })
    this.#post({ type: 'start-stream', id, request, boards, unread })
    const unheard = gone.map((one, index) => {
      const end = () => this.#post({ type: 'end-source', id, index })
      if (one.aborted) end()
      return whenAborted(one, end)
    })
    try {
      for (;;) {
        const next = await reader.next(signal)
        if (next.kind === 'end') return next.end
        const { chunk } = next
        yield chunk
        const before = Atomics.sub(unread, 0, chunk.bytes.length)
        if (before > unreadLimitBytes && before - chunk.bytes.length <= unreadLimitBytes) this.#wake()
      }
    } finally {
      for (const forget of unheard) forget()
      this.#post({ type: 'stop', id })
    }
  }

  async close(): Promise<void> {
    this.#over ??= { kind: 'closed' }
    this.#worker.ref()
    this.#requestClose()
    await this.#exited
  }

  readonly #requestClose = (): void => this.#post({ type: 'close' })

  #begin(id: number, told: Told): void {
    if (this.#over !== undefined) told.refused(new CaptureError(this.#over))
    else this.#captures.set(id, told)
  }

  #post(message: ToWorker): void {
    this.#port.postMessage(message)
    this.#wake()
  }

  /** eventfd(2) takes eight bytes in host order. */
  #wake(): void {
    if (this.#over?.kind !== 'worker-died') writeSync(this.#wakeFd, new BigUint64Array([1n]))
  }

  #take(message: FromWorker): void {
    switch (message.type) {
      case 'ready':
        this.#settleReady(undefined)
        return
      case 'unusable':
        this.#settleReady(message.problem)
        return
      case 'started':
        this.#captures.get(message.id)?.started()
        return
      case 'refused':
        void this.#settle(message.id, told => told.refused(new CaptureError(message.problem)))
        return
      case 'chunk':
        this.#captures.get(message.id)?.chunk(message.chunk)
        return
      case 'ended':
        void this.#settle(message.id, told => told.ended(message.end))
        return
      case 'measure':
        void this.#quota.measure().then(() => this.#post({ type: 'measured', ticket: message.ticket }))
        return
      default:
        assertNever(message)
    }
  }

  async #settle(id: number, tell: (told: Told) => void): Promise<void> {
    const told = this.#captures.get(id)
    if (told === undefined) return
    this.#captures.delete(id)
    await releaseAll(told.boards)
    tell(told)
  }

  /** Ends what the thread was at, and gives back what it can no longer give back itself. */
  async #die(detail: string): Promise<void> {
    process.removeListener('exit', this.#requestClose)
    const problem: CaptureProblem = this.#over ?? { kind: 'worker-died', detail }
    this.#over = { kind: 'worker-died', detail }
    closeSync(this.#wakeFd)
    this.#port.close()
    this.#settleReady(problem)
    const left = [...this.#captures.values()]
    this.#captures.clear()
    const error = new CaptureError(problem)
    await releaseAll(left.flatMap(({ boards }) => boards))
    for (const told of left) {
      told.refused(error)
      told.ended({ kind: 'failed', detail: error.message })
    }
  }
}
