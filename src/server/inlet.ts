import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import type { Writer } from './writer.js'

/** How long HTTP/2 may be at work on one piece, as far as can be told from the last one; a call may come in thirty bytes. */
const mostPieceMs = 0.5
const leastPieceBytes = 512
const mostPieceBytes = 4_096
/** What is held beside what a socket reads by itself. */
const mostHeldBytes = 16_384

/**
 * A client's socket as HTTP/2 has it. By itself HTTP/2 takes all that comes of a socket, for as long as more comes, and many
 * frames that cost time are seen by nobody else. Of this it gets a piece at a time, when `take` says that it is the
 * caller's turn; until then the rest stays in the socket.
 */
export class Inlet extends Duplex {
  readonly #socket: Socket
  readonly #writer: Writer
  readonly #take: (work: () => void) => void
  #pieceBytes = mostPieceBytes
  #hasRoom = false
  #isWaiting = false
  /** What has come while HTTP/2 took nothing, which then has its turns too. */
  #held: Buffer = Buffer.alloc(0)

  constructor(socket: Socket, writer: Writer, take: (work: () => void) => void) {
    super()
    this.#socket = socket
    this.#writer = writer
    this.#take = take
    // A stream would pass on at once what it holds by then, in nobody's turn.
    this.on('resume', () => this.#look())
    socket.on('readable', () => this.#look())
    socket.once('end', () => {
      this.#held = Buffer.alloc(0)
      this.push(null)
    })
    // What goes wrong with a connection is its end, and nobody's defect.
    socket.on('error', () => {})
    socket.once('close', () => this.destroy())
  }

  /** Whether something has come that has to wait for its turn, and not for a client that takes nothing. */
  get isWaiting(): boolean {
    const hasMore = this.#held.length > 0 || this.#socket.readableLength > 0
    return this.#isWaiting || (hasMore && this.#socket.writableLength === 0)
  }

  override _read(): void {
    this.#hasRoom = true
    // What is passed on before this returns is held as well.
    process.nextTick(() => this.#look())
  }

  override _write(bytes: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.write(bytes, done)
  }

  override _writev(pieces: readonly { readonly chunk: Buffer }[], done: (error?: Error | null) => void): void {
    const all = pieces.map(({ chunk }) => chunk)
    this.#writer.write(this.#socket, all, done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(done)
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy()
    done(error)
  }

  #look(): void {
    if (this.#isWaiting || !this.#hasRoom) return
    if (this.readableFlowing !== true) this.#hold()
    // At its end a socket says so only to who reads on.
    else if (this.#held.length === 0 && this.#socket.readableLength === 0) this.#socket.read(0)
    else {
      this.#isWaiting = true
      this.#take(() => this.#pass())
    }
  }

  /** HTTP/2 may take nothing any more, and the client be gone: without reading on nobody would notice. */
  #hold(): void {
    if (this.#held.length >= mostHeldBytes) return
    const more: unknown = this.#socket.read()
    if (Buffer.isBuffer(more)) this.#held = Buffer.concat([this.#held, more])
  }

  #pass(): void {
    this.#isWaiting = false
    if (this.destroyed) return
    const piece = this.readableFlowing === true ? this.#next() : undefined
    if (piece !== undefined) {
      const beganMs = performance.now()
      this.#hasRoom = this.push(piece)
      const tookMs = performance.now() - beganMs
      if (tookMs > mostPieceMs) this.#pieceBytes = Math.max(leastPieceBytes, this.#pieceBytes / 2)
      else if (tookMs < mostPieceMs / 4) this.#pieceBytes = Math.min(mostPieceBytes, this.#pieceBytes * 2)
    }
    this.#look()
  }

  #next(): Buffer | undefined {
    if (this.#held.length > 0) {
      const piece = this.#held.subarray(0, this.#pieceBytes)
      this.#held = this.#held.subarray(piece.length)
      return piece
    }
    const piece: unknown = this.#socket.read(Math.min(this.#pieceBytes, this.#socket.readableLength))
    return Buffer.isBuffer(piece) ? piece : undefined
  }
}
