/** A transaction that has left, and may or may not be committed. */
interface Sent {
  readonly operationCount: number
  /** Its connection is gone: no answer will come. */
  isStray: boolean
}

/** The transactions of which nobody can say yet whether they are committed. */
export class Undecided {
  readonly #sent = new Set<Sent>()
  #operationCount = 0

  /** Operations that the server may be working on. */
  get operationCount(): number {
    return this.#operationCount
  }

  add(operationCount: number): Sent {
    const sent = { operationCount, isStray: false }
    this.#sent.add(sent)
    this.#operationCount += operationCount
    return sent
  }

  /** The server has answered. */
  decide(sent: Sent): void {
    if (this.#sent.delete(sent) && !sent.isStray) this.#operationCount -= sent.operationCount
  }

  /** The connection was lost before the answer came. */
  strand(sent: Sent): void {
    sent.isStray = true
    this.#operationCount -= sent.operationCount
  }

  /** What was sent on former connections is committed by now, or never will be. */
  decideStrays(): void {
    for (const sent of this.#sent) if (sent.isStray) this.#sent.delete(sent)
  }

  /** Says whether all that is undecided now has been decided. */
  watch(): () => boolean {
    const now = [...this.#sent]
    return () => now.every(sent => !this.#sent.has(sent))
  }
}
