import { releaseDump } from './dump-file.js'
import { CaptureError } from './errors.js'
import { companyMs, LiveHandle, type Natives } from './live-handle.js'
import { type Board, type StreamChunk, type StreamRequest, writeBoard } from './messages.js'
import type { Pointer } from './native.js'
import { recordHeaderBytes } from './pcap-records.js'
import { packetsOf, type StreamSource, sectionOf, statisticsOf } from './pcapng.js'
import type { Running, Step } from './running.js'

/** A reader that has as much still to read gets no more. What then comes waits in the kernel, which drops and counts the rest. */
export const unreadLimitBytes = 2 ** 20

/** A chunk is no larger: a message that it becomes must not near 4 MiB. */
const chunkBytes = 2 ** 20

/** How long the reader's progress goes unseen when nothing tells of it. */
const retryMs = 100

/** A device of the stream. */
interface Part {
  readonly source: StreamSource
  readonly live: LiveHandle
  readonly memory: Memory
  /** Packets lost, as the reader has been told. */
  toldDropped: number
  /** When to give up on a device that is gone. */
  lostUntilMs: number | undefined
  ended: boolean
}

/** A capture of devices that is handed on as pcapng, in the worker. */
export class StreamCapture implements Running {
  readonly #natives: Natives
  readonly #request: StreamRequest
  readonly #boards: readonly Board[]
  readonly #unread: Int32Array
  readonly #emit: (chunk: StreamChunk) => void
  /** As many of the sources as are open. */
  readonly #parts: Part[] = []
  /** Places of sources that ended before they were opened. */
  readonly #goneBefore = new Set<number>()
  #packets = 0
  #stopped = false
  dueMs = Number.POSITIVE_INFINITY

  /** Opens nothing yet. `unread` is what the reader has not read, in bytes, counted by both sides. */
  constructor(
    natives: Natives,
    request: StreamRequest,
    boards: readonly Board[],
    unread: Int32Array,
    emit: (chunk: StreamChunk) => void,
  ) {
    this.#natives = natives
    this.#request = request
    this.#boards = boards
    this.#unread = unread
    this.#emit = emit
  }

  get watched(): readonly LiveHandle[] {
    if (this.#isOpening || this.#isBehind()) return []
    return this.#parts.filter(part => !part.ended && part.lostUntilMs === undefined).map(part => part.live)
  }

  step(nowMs: number): Step {
    this.dueMs = Number.POSITIVE_INFINITY
    if (this.#stopped) return { kind: 'told' }
    if (this.#isOpening) return this.#openNext(nowMs)
    if (this.#isBehind()) {
      this.dueMs = nowMs + retryMs
      return 'waiting'
    }
    let more = false
    for (const part of this.#parts) {
      if (part.ended) continue
      if (this.#take(part, nowMs)) more = true
      if (this.#packets === this.#request.maxPackets) return this.#conclude('packet-limit')
    }
    if (this.#parts.every(part => part.ended)) return this.#conclude('device-gone')
    return more ? 'more' : 'waiting'
  }

  stop(nowMs: number): void {
    this.#stopped = true
    this.dueMs = nowMs
  }

  endSource(index: number, nowMs: number): void {
    const part = this.#parts[index]
    if (part === undefined) this.#goneBefore.add(index)
    if (part === undefined || part.ended) return
    part.live.shut()
    part.lostUntilMs ??= nowMs + 2 * companyMs
    this.dueMs = nowMs
  }

  close(): void {
    for (const { memory } of this.#parts) memory.close()
    this.#parts.length = 0
  }

  get #isOpening(): boolean {
    return this.#parts.length < this.#request.sources.length
  }

  /** One device a step: it takes 10 to 30 ms, in which the others' packets wait. */
  #openNext(nowMs: number): Step {
    const index = this.#parts.length
    try {
      this.#open(this.#request.sources[index], this.#boards[index])
    } catch (error) {
      if (error instanceof CaptureError) return { kind: 'refused', problem: error.problem }
      throw error
    }
    if (this.#goneBefore.has(index)) this.endSource(index, nowMs)
    if (!this.#isOpening) this.#send([sectionOf(this.#request.sources, 'ovs-bridged')])
    return 'more'
  }

  #open(source: StreamSource | undefined, board: Board | undefined): void {
    if (source === undefined || board === undefined) throw new Error('a source without a board')
    const live = new LiveHandle(this.#natives, source, board)
    const memory = new Memory(this.#natives, live.pcap, source.snapLenBytes, board)
    this.#parts.push({ source, live, memory, toldDropped: 0, lostUntilMs: undefined, ended: false })
  }

  /** Sends a batch of what a device has; whether it may have more at once. */
  #take(part: Part, nowMs: number): boolean {
    const left = (this.#request.maxPackets ?? Number.POSITIVE_INFINITY) - this.#packets
    const atMost = Math.min(part.memory.batchPackets, left)
    const taken = part.live.dispatch(atMost, part.memory.dump)
    const count = typeof taken === 'number' ? taken : 0
    if (typeof taken !== 'number') part.lostUntilMs ??= nowMs + 2 * companyMs
    if (part.live.down || part.lostUntilMs !== undefined) this.dueMs = Math.min(this.dueMs, nowMs + companyMs)
    this.#packets += count
    if (count > 0) {
      const { dropped } = part.live
      this.#send([packetsOf(this.#parts.indexOf(part), part.memory.take(), dropped - part.toldDropped)])
      part.toldDropped = dropped
    }
    if (count === 0 && part.lostUntilMs !== undefined) part.ended = part.live.empty || nowMs >= part.lostUntilMs
    return count === atMost
  }

  #conclude(kind: 'packet-limit' | 'device-gone'): Step {
    const epochNs = BigInt(Date.now()) * 1_000_000n
    this.#send(this.#parts.map(({ live }, index) => statisticsOf(index, epochNs, live.dropped)))
    return { kind }
  }

  #send(blocks: readonly Buffer[]): void {
    const whole = Buffer.concat(blocks)
    const dropped = this.#parts.reduce((sum, { live }) => sum + live.dropped, 0)
    Atomics.add(this.#unread, 0, whole.length)
    if (whole.length <= chunkBytes) return this.#emit({ bytes: whole, dropped })
    for (let at = 0; at < whole.length; at += chunkBytes) {
      // A copy: a part of a buffer would take all of it along to the other thread.
      this.#emit({ bytes: Buffer.copyBytesFrom(whole, at, chunkBytes), dropped })
    }
  }

  #isBehind(): boolean {
    return Atomics.load(this.#unread, 0) > unreadLimitBytes
  }
}

/** A pcap file in memory, which is emptied after each batch. */
class Memory {
  readonly #natives: Natives
  readonly #board: Board
  readonly #buffer: Pointer
  readonly #stream: Pointer
  readonly dump: Pointer
  readonly batchPackets: number

  constructor(natives: Natives, pcap: Pointer, snapLenBytes: number, board: Board) {
    const recordBytes = recordHeaderBytes + snapLenBytes
    const bytes = Math.max(leastMemoryBytes, leastBatchPackets * recordBytes)
    this.#natives = natives
    this.#board = board
    this.batchPackets = Math.floor((bytes - 1) / recordBytes)
    this.#buffer = natives.libc.allocate(bytes)
    writeBoard(board, 'buffer', this.#buffer)
    this.#stream = natives.libc.openMemory(this.#buffer, bytes)
    this.dump = natives.libpcap.openDump(pcap, this.#stream)
    writeBoard(board, 'dump', this.dump)
    // Without the file's header.
    natives.libc.rewind(this.#stream)
  }

  /** The records since the last time. */
  take(): Buffer {
    const { libc, libpcap } = this.#natives
    const bytes = libpcap.tellDump(this.dump)
    libpcap.flushDump(this.dump)
    const records = libc.read(this.#buffer, bytes)
    libc.rewind(this.#stream)
    return records
  }

  close(): void {
    releaseDump(this.#natives, this.#board, this.dump, this.#buffer)
  }
}

// Memory that no packet reaches is never the process's.
const leastMemoryBytes = 256 * 1024
const leastBatchPackets = 64
