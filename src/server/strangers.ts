import type { Socket } from 'node:net'
import type { Limits } from './limits.js'
import { handshakeMs, type Turns } from './turns.js'

/** As a caller's id: until it is known who they are, all of them are one caller. */
const strangers = 'strangers'

/** So many may all speak at once: OpenSSL signs for one after the other, and nobody is served meanwhile. */
export const mostShaking = 32

export interface StrangersOptions {
  readonly turns: Turns
  readonly limits: Pick<Limits, 'handshakeTimeoutMs'>
  /** A defect of ours; its connection has ended. */
  readonly onDefect: (caller: string, error: unknown) => void
}

/** Clients at doors of TLS until it is known who they are. OpenSSL does its part when their words come, in nobody's turn. */
export class Strangers {
  readonly #options: StrangersOptions
  /** What TLS is spoken over, also by those who are known by now. */
  readonly #sockets = new Set<Socket>()
  readonly #shaking = new Set<object>()
  /** With what has them shake hands, in the order in which they spoke. Who leaves is not kept, nor what it said. */
  readonly #waiting = new Map<Socket, () => void>()

  constructor(options: StrangersOptions) {
    this.#options = options
  }

  /**
   * Has a client shake hands, once it has said something, few others do, and the turn is theirs. One that is silent, or has to
   * wait, for too long is cut off, which `onLate` is told. From the call of `shakeHands` on TLS has a time limit of its own.
   */
  greet(socket: Socket, shakeHands: () => void, onLate: () => void): void {
    this.#sockets.add(socket)
    const patience = setTimeout(() => {
      onLate()
      socket.destroy()
    }, this.#options.limits.handshakeTimeoutMs)
    // Nobody else hears of what goes wrong with it until it shakes hands.
    socket.on('error', () => {})
    socket.once('close', () => {
      clearTimeout(patience)
      this.#sockets.delete(socket)
      this.#waiting.delete(socket)
      this.part(socket)
    })
    socket.once('readable', () => {
      this.#waiting.set(socket, () => {
        clearTimeout(patience)
        shakeHands()
      })
      this.#proceed()
    })
  }

  /** It is known who it is that speaks over this socket, or that it may not come in. */
  part(socket: object): void {
    if (this.#shaking.delete(socket)) this.#proceed()
  }

  /** Cuts off all that speak TLS. */
  closeAll(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  #proceed(): void {
    for (const [socket, shakeHands] of this.#waiting) {
      if (this.#shaking.size >= mostShaking) return
      this.#waiting.delete(socket)
      this.#begin(socket, shakeHands)
    }
  }

  #begin(socket: Socket, shakeHands: () => void): void {
    const { turns, onDefect } = this.#options
    this.#shaking.add(socket)
    const work = () => {
      if (socket.destroyed) return
      turns.rest(strangers, handshakeMs)
      shakeHands()
    }
    turns.take(strangers, work, error => {
      onDefect(strangers, error)
      socket.destroy()
    })
  }
}
