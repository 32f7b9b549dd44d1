import type { Socket } from 'node:net'

const bytes = 8_192

/**
 * Writes what is in many pieces. They are put together where they fit into memory that is there already: HTTP/2 has two pieces
 * for each message, each takes its time to write, and memory that is made for each answer takes longer to be found and freed again.
 */
export class Writer {
  #memory = Buffer.allocUnsafeSlow(bytes)

  write(socket: Socket, pieces: readonly Buffer[], done: (error?: Error | null) => void): void {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0)
    if (length > bytes) {
      socket.cork()
      pieces.forEach((piece, i) => socket.write(piece, i === pieces.length - 1 ? done : undefined))
      socket.uncork()
      return
    }
    let at = 0
    for (const piece of pieces) at += piece.copy(this.#memory, at)
    socket.write(this.#memory.subarray(0, length), done)
    // Else the kernel has taken it.
    if (socket.writableLength > 0) this.#memory = Buffer.allocUnsafeSlow(bytes)
  }
}
