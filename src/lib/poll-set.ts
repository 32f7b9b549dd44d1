/** What poll(2) says of a descriptor. */
export type Readiness = 'idle' | 'readable' | 'failing'

/** Input, which is what a set waits for unless it is told otherwise, and room for output: <poll.h>. */
const POLLIN = 0x1
export const POLLOUT = 0x4

/** Without an end. */
export const foreverMs = -1

/** poll(2), over so many of the structures. Below zero is −errno. */
type Poll = (structs: Int32Array, count: number, timeoutMs: number) => number

/**
 * Descriptors to wait for, which are added anew each time. Its memory stays: a loop that waits some thousand times a second
 * makes no garbage, whose collection would hold it up for longer than the kernel can keep packets.
 */
export class PollSet {
  readonly #poll: Poll
  /** Of `struct pollfd`, { int fd; short events; short revents }. */
  #words = new Int32Array(16)
  #halves = new Int16Array(this.#words.buffer)
  #count = 0
  #anyReady = false

  constructor(poll: Poll) {
    this.#poll = poll
  }

  clear(): void {
    this.#count = 0
  }

  /** The first has place 0, and so on. */
  add(fd: number, events = POLLIN): void {
    const at = 2 * this.#count++
    if (at === this.#words.length) this.#grow()
    this.#words[at] = fd
    this.#halves[2 * at + 2] = events
  }

  /** Until one of them has what it is there for, an error or its end; how many have, or −errno. */
  wait(timeoutMs: number): number {
    const result = this.#poll(this.#words, this.#count, timeoutMs)
    this.#anyReady = result > 0
    return result
  }

  /** As it was when the last wait ended. */
  readiness(place: number): Readiness {
    const events = this.#anyReady ? (this.#halves[4 * place + 3] ?? 0) : 0
    if (events === 0) return 'idle'
    return (events & ~POLLIN) === 0 ? 'readable' : 'failing'
  }

  #grow(): void {
    const words = new Int32Array(2 * this.#words.length)
    words.set(this.#words)
    this.#words = words
    this.#halves = new Int16Array(words.buffer)
  }
}
