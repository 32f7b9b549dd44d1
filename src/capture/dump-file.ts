import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync } from 'node:fs'
import koffi from 'koffi'
import { errnoName } from '../lib/syscall.js'
import { fileErrorInWords } from './errors.js'
import type { Natives } from './live-handle.js'
import { type Board, writeBoard } from './messages.js'
import type { Pointer } from './native.js'
import { fileHeaderBytes, recordHeaderBytes, wholeRecords } from './pcap-records.js'

/** What went wrong with a file, and what became of what the buffer held. */
export interface WriteFailure {
  /** In words. */
  readonly detail: string
  /** Packets of the buffer that reached the file whole. */
  readonly rescuedPackets: number
  /** Of the file as it is left. */
  readonly fileBytes: number
}

/**
 * A pcap file that is written through a buffer of our own. The buffer is flushed before it could overflow, so that whatever
 * is written ends with a whole packet, also when the process is killed. What the C library holds for it stands on the board.
 */
export class DumpFile {
  readonly #natives: Natives
  readonly #fd: number
  readonly #board: Board
  /** Packets that fit into the empty buffer, however long they are. */
  readonly #mostPackets: number
  /** Of a packet with its header in the last batch. */
  #usualBytes: number
  readonly #buffer: Pointer
  readonly dump: Pointer
  #flushedBytes = 0
  #open = true

  /** `fd` is this object's from now on. */
  constructor(natives: Natives, pcap: Pointer, fd: number, snapLenBytes: number, board: Board) {
    this.#natives = natives
    this.#fd = fd
    this.#board = board
    const recordBytes = recordHeaderBytes + snapLenBytes
    const bufferBytes = Math.max(leastBufferBytes, leastBatchPackets * recordBytes)
    // stdio(3) may write as soon as its buffer is full to the brim.
    this.#mostPackets = Math.floor((bufferBytes - 1) / recordBytes)
    this.#usualBytes = recordBytes
    this.#buffer = natives.libc.allocate(bufferBytes)
    writeBoard(board, 'buffer', this.#buffer)
    const stream = natives.libc.openStream(fd, this.#buffer, bufferBytes)
    this.dump = natives.libpcap.openDump(pcap, stream)
    writeBoard(board, 'dump', this.dump)
  }

  /** With what is not flushed yet. */
  get bytes(): number {
    return this.#natives.libpcap.tellDump(this.dump)
  }

  /** What has been written out. */
  get flushedBytes(): number {
    return this.#flushedBytes
  }

  /**
   * How many packets to take before the next flush: surely no more than the buffer has room for, and likely
   * {@link batchBytes}.
   */
  get batchPackets(): number {
    return Math.min(Math.ceil(batchBytes / this.#usualBytes), this.#mostPackets)
  }

  /** Writes the buffer out, with so many packets. After a failure the file is closed, with the whole packets that reached it. */
  flush(packets: number): WriteFailure | undefined {
    const { bytes } = this
    if (bytes === this.#flushedBytes) return undefined
    if (this.#natives.libpcap.flushDump(this.dump) === 0) {
      if (packets > 0) this.#usualBytes = (bytes - this.#flushedBytes) / packets
      this.#flushedBytes = bytes
      return undefined
    }
    const detail = fileErrorInWords('the file could not be written', errnoName(koffi.errno()))
    return { detail, ...this.#cutTorn() }
  }

  /** Closes the file after its first `keepBytes`. */
  close(keepBytes: number): void {
    if (!this.#open) return
    const { bytes } = this
    const cutter = keepBytes < bytes ? reopened(this.#fd) : undefined
    this.#release()
    if (cutter === undefined) return
    ftruncateSync(cutter, keepBytes)
    closeSync(cutter)
  }

  /** Closes the file, and cuts off what a failed write has left of a packet. */
  #cutTorn(): Pick<WriteFailure, 'rescuedPackets' | 'fileBytes'> {
    const cutter = reopened(this.#fd)
    this.#release()
    const size = fstatSync(cutter).size
    const from = Math.max(this.#flushedBytes, fileHeaderBytes)
    const written = Buffer.alloc(Math.max(size - from, 0))
    readSync(cutter, written, 0, written.length, from)
    const whole = wholeRecords(written)
    // Without a whole header it is no pcap file, and then better an empty one.
    const fileBytes = size < from ? 0 : from + whole.bytes
    ftruncateSync(cutter, fileBytes)
    closeSync(cutter)
    return { rescuedPackets: whole.packets, fileBytes }
  }

  #release(): void {
    this.#open = false
    releaseDump(this.#natives, this.#board, this.dump, this.#buffer)
  }
}

/** More would have left the processor's cache before it is written out. */
const batchBytes = 2 ** 18
// Memory that no packet reaches is never the process's.
const leastBufferBytes = 2 ** 22
const leastBatchPackets = 64

/**
 * Closes a dump, and frees its buffer. They go off the board first: were this thread to die in between, what still stood there
 * would be given back twice.
 */
export function releaseDump({ libc, libpcap }: Natives, board: Board, dump: Pointer, buffer: Pointer): void {
  for (const place of ['dump', 'buffer'] as const) writeBoard(board, place, 0)
  libpcap.closeDump(dump)
  libc.free(buffer)
}

/** The same file once more, with a position of its own. */
function reopened(fd: number): number {
  return openSync(`/proc/self/fd/${fd}`, constants.O_RDWR)
}
