/** Where calls come from, as far as it can be told to wait. */
export interface Source {
  stopReading(): void
  startReading(): void
}

interface CallerTurn {
  /** Calls that have come in this turn. */
  begun: number
  /** What begins those that wait. */
  readonly waiting: (() => void)[]
  /** Not read at the moment, the longest first. */
  readonly stopped: Set<Source>
}

/** Calls that a caller begins in one turn of the event loop: fewer while turns last longer than they should. */
const mostCalls = 64
const fewestCalls = 4
const longTurnMs = 5

/**
 * Shares the main thread among callers. In each turn of the event loop a caller begins a few calls; further ones wait for
 * the next turns, and what they came from is not read meanwhile. So who floods the server waits for itself, and others
 * for a few calls of each caller.
 */
export class Turns {
  readonly #callers = new Map<string, CallerTurn>()
  #calls = mostCalls
  /** When the turn began that is to be followed by another; undefined: nobody waits for one. */
  #beganMs: number | undefined

  /** Has a call begin now or in a later turn. */
  take(callerId: string, source: Source, begin: () => void): void {
    const caller = this.#count(callerId, source)
    if (caller.begun <= this.#calls && caller.waiting.length === 0) begin()
    else caller.waiting.push(begin)
  }

  /** Counts a call that was answered without being begun: that takes time too. */
  pass(callerId: string, source: Source): void {
    this.#count(callerId, source)
  }

  #count(callerId: string, source: Source): CallerTurn {
    const caller = this.#callers.get(callerId) ?? { begun: 0, waiting: [], stopped: new Set() }
    this.#callers.set(callerId, caller)
    caller.begun++
    if (caller.begun > this.#calls && !caller.stopped.has(source)) {
      caller.stopped.add(source)
      source.stopReading()
    }
    this.#schedule()
    return caller
  }

  #schedule(): void {
    if (this.#beganMs !== undefined) return
    this.#beganMs = performance.now()
    setImmediate(() => this.#turn())
  }

  #turn(): void {
    const isLong = performance.now() - (this.#beganMs ?? 0) > longTurnMs
    this.#calls = isLong ? Math.max(fewestCalls, this.#calls / 2) : Math.min(mostCalls, this.#calls * 2)
    this.#beganMs = undefined
    for (const [id, caller] of this.#callers) {
      const now = caller.waiting.splice(0, this.#calls)
      caller.begun = now.length
      for (const begin of now) begin()
      // One at a time: each may bring as much as a socket holds.
      const [next] = caller.waiting.length === 0 ? caller.stopped : []
      if (next !== undefined) {
        caller.stopped.delete(next)
        next.startReading()
      }
      if (now.length === 0 && next === undefined) this.#callers.delete(id)
    }
    if (this.#callers.size > 0) this.#schedule()
  }
}
