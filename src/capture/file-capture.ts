import type { FileIdentity } from '../lib/safe-file.js'
import { codeOf } from '../lib/thrown.js'
import { createBeside, removeBeside } from './capture-file.js'
import { DumpFile } from './dump-file.js'
import { fileErrorInWords } from './errors.js'
import { companyMs, LiveHandle, type Natives } from './live-handle.js'
import { type Board, type CaptureEnd, type FileRequest, type Ring, writeBoard } from './messages.js'
import { ringFileName } from './names.js'
import { fileHeaderBytes, recordHeaderBytes } from './pcap-records.js'
import type { QuotaView } from './quota.js'
import type { Running, Step } from './running.js'

/** Longest that a packet that was there before the end is waited for. */
const drainMs = 2 * companyMs

/** How often a device that is down is tried: nothing tells when it goes for good. */
const downRetryMs = 100

/** A capture to a file or a ring of files, in the worker. */
export class FileCapture implements Running {
  readonly #natives: Natives
  readonly #request: FileRequest
  readonly #board: Board
  readonly #quota: QuotaView
  readonly #live: LiveHandle
  #watched: readonly LiveHandle[]
  #file: DumpFile
  /** Files of a ring that are full, the oldest first. */
  readonly #full: { readonly name: string; readonly identity: FileIdentity; readonly bytes: number }[] = []
  #fullBytes = 0
  #name: string
  #identity: FileIdentity
  #number = 1
  /** In the buffer, not known to fit into the file. */
  #unwritten = 0
  /** Of a measurement that is waited for, since the quota seems to be spent. */
  #ticket: number | undefined
  #packets = 0
  #writtenBytes = 0
  /** Of the current file, without a packet that came to nothing. */
  #keepBytes = 0
  #draining: { readonly end: CaptureEnd; readonly untilMs: number } | undefined
  /** Of the header. */
  readonly #failed: CaptureEnd | undefined
  dueMs = Number.POSITIVE_INFINITY

  /** Throws CaptureError; the file's descriptor is still the caller's then. */
  constructor(natives: Natives, request: FileRequest, board: Board, quota: QuotaView) {
    this.#natives = natives
    this.#request = request
    this.#board = board
    this.#quota = quota
    this.#live = new LiveHandle(natives, request.source, board)
    this.#watched = [this.#live]
    this.#name = request.file.name
    this.#identity = request.file.identity
    // Before: were this thread to die in between, to close it twice would hit whoever has its number then.
    writeBoard(board, 'fdTaken', 1)
    this.#file = this.#openDump(request.file.fd)
    // The header at once: a capture without a packet is a pcap file too.
    this.#failed = this.#flush(0)
  }

  get watched(): readonly LiveHandle[] {
    return this.#ticket === undefined ? this.#watched : []
  }

  step(nowMs: number): Step {
    this.dueMs = this.#live.down ? nowMs + downRetryMs : Number.POSITIVE_INFINITY
    // Not before there is a packet for the next file: the oldest goes for it.
    if (this.#isFull && !this.#isSpent && this.#live.empty && !this.#live.down) return this.#rest(nowMs)
    const failed = this.#failed ?? this.#makeRoom()
    if (failed !== undefined) return failed
    const roomBytes = this.#roomBytes
    if (roomBytes <= recordHeaderBytes) return this.#outOfRoom(nowMs)
    const atMost = this.#batchPackets(roomBytes)
    if (this.#unwritten === 0) {
      this.#ticket = undefined
      const taken = this.#live.dispatch(atMost, this.#file.dump)
      if (typeof taken !== 'number') return this.#lose(nowMs)
      writeBoard(this.#board, 'dropped', this.#live.dropped)
      if (taken === 0) return this.#rest(nowMs)
      this.#unwritten = taken
    }
    return this.#write(atMost, roomBytes, nowMs)
  }

  /** Takes in what came before now, and nothing else. */
  stop(nowMs: number): void {
    if (this.#draining !== undefined) return
    this.#live.shut()
    this.#drain({ kind: 'told' }, nowMs)
  }

  close(): void {
    this.#file.close(this.#keepBytes)
  }

  /** In a file, of a packet as long as any. */
  get #recordBytes(): number {
    return recordHeaderBytes + this.#request.source.snapLenBytes
  }

  /** Whether the next packet needs the next file of the ring. */
  get #isFull(): boolean {
    const { ring } = this.#request
    return ring !== undefined && this.#keepBytes + this.#recordBytes > ring.fileBytes
  }

  /** Whether the limit leaves room for no packet in a further file. */
  get #isSpent(): boolean {
    const { bytes } = this.#request.limits
    return bytes !== undefined && bytes - this.#writtenBytes <= fileHeaderBytes + recordHeaderBytes
  }

  /** Goes on in the ring's next file when the next packet needs it; the end, when it may not or cannot. */
  #makeRoom(): CaptureEnd | undefined {
    const { ring } = this.#request
    if (ring === undefined || !this.#isFull) return undefined
    return this.#isSpent ? { kind: 'byte-limit' } : this.#rotate(ring)
  }

  /** What the limit and the quota leave. */
  get #roomBytes(): number {
    return Math.min(this.#limitLeftBytes, this.#quota.leftBytes)
  }

  get #limitLeftBytes(): number {
    return (this.#request.limits.bytes ?? Number.POSITIVE_INFINITY) - this.#writtenBytes
  }

  /** The end, unless somebody may have removed files: that is seen by a measurement, for which packets wait in the kernel. */
  #outOfRoom(nowMs: number): Step {
    if (this.#quota.leftBytes >= this.#limitLeftBytes) return { kind: 'byte-limit' }
    this.#ticket ??= this.#quota.requestMeasure()
    return this.#quota.isMeasured(this.#ticket) ? { kind: 'quota' } : this.#rest(nowMs)
  }

  /** How many packets surely fit; one at least: it may be shorter than the longest, and it is seen afterwards whether it was. */
  #batchPackets(roomBytes: number): number {
    const { limits, ring } = this.#request
    const ofRing = ring === undefined ? Number.POSITIVE_INFINITY : ring.fileBytes - this.#keepBytes
    const sure = Math.max(Math.floor(Math.min(roomBytes, ofRing) / this.#recordBytes), 1)
    const ofPackets = (limits.packets ?? Number.POSITIVE_INFINITY) - this.#packets
    return Math.min(sure, ofPackets, this.#file.batchPackets)
  }

  /** Writes what has been taken if it fits, of `atMost` packets. */
  #write(atMost: number, roomBytes: number, nowMs: number): Step {
    if (this.#file.bytes - this.#keepBytes > roomBytes) return this.#outOfRoom(nowMs)
    this.#ticket = undefined
    const taken = this.#unwritten
    this.#unwritten = 0
    const failed = this.#flush(taken)
    if (failed !== undefined) return failed
    if (this.#packets === this.#request.limits.packets) return { kind: 'packet-limit' }
    return taken === atMost ? 'more' : this.#rest(nowMs)
  }

  /** Writes a batch out and counts it; the end, if the file could not be written. */
  #flush(taken: number): CaptureEnd | undefined {
    const failure = this.#file.flush(taken)
    this.#packets += failure?.rescuedPackets ?? taken
    const grown = (failure?.fileBytes ?? this.#file.flushedBytes) - this.#keepBytes
    this.#keepBytes += grown
    this.#writtenBytes += grown
    this.#quota.grow(grown)
    writeBoard(this.#board, 'packets', this.#packets)
    writeBoard(this.#board, 'fileBytes', this.#fullBytes + this.#keepBytes)
    return failure && { kind: 'failed', detail: failure.detail }
  }

  /** Nothing is there now. */
  #rest(nowMs: number): Step {
    const draining = this.#draining
    if (draining === undefined) return 'waiting'
    const isDone = this.#unwritten === 0 && this.#live.empty
    if (isDone || nowMs >= draining.untilMs) return draining.end
    this.dueMs = Math.min(nowMs + companyMs / 5, draining.untilMs)
    return 'waiting'
  }

  /** What the kernel holds of a device that is gone can be had for a moment. */
  #lose(nowMs: number): Step {
    this.#watched = []
    if (this.#draining === undefined) this.#drain({ kind: 'device-gone' }, nowMs)
    return this.#rest(nowMs)
  }

  #drain(end: CaptureEnd, nowMs: number): void {
    this.#draining = { end, untilMs: nowMs + drainMs }
    this.dueMs = nowMs
  }

  /** Goes on in the next file, and removes the oldest when there are too many. */
  #rotate({ files, baseName }: Ring): CaptureEnd | undefined {
    const { folderFd } = this.#request.file
    const next = ringFileName(baseName, ++this.#number)
    let made: ReturnType<typeof createBeside>
    try {
      made = createBeside(folderFd, next)
    } catch (error) {
      return { kind: 'failed', detail: fileErrorInWords(`${next} could not be made`, codeOf(error) ?? String(error)) }
    }
    this.#full.push({ name: this.#name, identity: this.#identity, bytes: this.#keepBytes })
    this.#fullBytes += this.#keepBytes
    this.#file.close(this.#keepBytes)
    this.#name = next
    this.#identity = made.identity
    this.#keepBytes = 0
    this.#file = this.#openDump(made.fd)
    for (const oldest of this.#full.splice(0, this.#full.length - files + 1)) {
      this.#fullBytes -= oldest.bytes
      if (removeBeside(folderFd, oldest.name, oldest.identity)) this.#quota.grow(-oldest.bytes)
    }
    return this.#flush(0)
  }

  #openDump(fd: number): DumpFile {
    return new DumpFile(this.#natives, this.#live.pcap, fd, this.#request.source.snapLenBytes, this.#board)
  }
}
