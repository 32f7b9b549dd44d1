interface Work {
  readonly run: () => void
  readonly onThrown: (error: unknown) => void
}

interface CallerTurn {
  /** What it took of the thread, beyond what earlier turns have paid for. */
  spentMs: number
  /** When it has turns again, by the clock. */
  restsUntilMs: number
  /** What is to be done for it, in the order in which it came. */
  readonly waiting: Work[]
}

/** What a caller gets of the thread in one turn of the event loop: less while turns last longer than they should. */
const mostMs = 1
const leastMs = mostMs / 16
const longTurnMs = 5

/** What a call takes after it has begun, about. */
export const callMs = mostMs / 16

/**
 * How long a caller rests after a request that is no call: what it leaves to be collected, thousands of such objects of HTTP/2, V8
 * frees in one go. Turns would not bound how many come in a second. Nobody who is served sends many.
 */
export const strayMs = 1

/** The same after a call that its client takes back before it runs: there may be reasons for that. */
export const resetMs = strayMs / 4

/** The same after a handshake of TLS has begun, in which OpenSSL signs: for the longer, the longer the server's key is. */
export const handshakeMs = 4

/**
 * Shares the main thread among callers. In each turn of the event loop so much is done for each of them; what is beyond waits for
 * the next turns. So who floods the server waits for itself, and others for a few milliseconds of each caller.
 */
export class Turns {
  readonly #nowMs: () => number
  readonly #callers = new Map<string, CallerTurn>()
  #eachMs = mostMs
  #isWorking = false
  /** When the turn began that is to be followed by another; undefined: nobody waits for one. */
  #beganMs: number | undefined
  /** Where all rest, until one of them has. */
  #rest: NodeJS.Timeout | undefined

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs
  }

  /**
   * Does something for a caller now or in a later turn, after all that it had asked for before. What it throws goes to `onThrown`:
   * whatever is done in a turn, the others have theirs.
   */
  take(callerId: string, run: () => void, onThrown: (error: unknown) => void): void {
    const caller = this.#of(callerId)
    caller.waiting.push({ run, onThrown })
    // What comes of work that is being done follows it at once, or waits for the next turn.
    if (!this.#isWorking) this.#serve(caller)
  }

  /** Counts what will have to be done for a caller where nobody can measure it. */
  charge(callerId: string, ms: number): void {
    this.#of(callerId).spentMs += ms
  }

  /** Does nothing for a caller until so much time is over, beyond what it has to rest already. */
  rest(callerId: string, ms: number): void {
    const caller = this.#of(callerId)
    caller.restsUntilMs = Math.max(caller.restsUntilMs, this.#nowMs()) + ms
  }

  #of(callerId: string): CallerTurn {
    const caller = this.#callers.get(callerId) ?? { spentMs: 0, restsUntilMs: 0, waiting: [] }
    this.#callers.set(callerId, caller)
    this.#schedule()
    return caller
  }

  #serve(caller: CallerTurn): void {
    this.#isWorking = true
    let nowMs = this.#nowMs()
    try {
      while (caller.spentMs < this.#eachMs && caller.restsUntilMs <= nowMs) {
        const work = caller.waiting.shift()
        if (work === undefined) return
        const beganMs = nowMs
        perform(work)
        nowMs = this.#nowMs()
        caller.spentMs += nowMs - beganMs
      }
    } finally {
      this.#isWorking = false
    }
  }

  #schedule(): void {
    if (this.#beganMs !== undefined) return
    this.#beganMs = this.#nowMs()
    setImmediate(() => this.#turn())
  }

  #turn(): void {
    const isLong = this.#nowMs() - (this.#beganMs ?? 0) > longTurnMs
    const paidMs = this.#eachMs
    this.#eachMs = isLong ? Math.max(leastMs, this.#eachMs / 2) : Math.min(mostMs, this.#eachMs * 2)
    this.#beganMs = undefined
    let nextMs = Number.POSITIVE_INFINITY
    for (const [id, caller] of this.#callers) {
      caller.spentMs = Math.max(0, caller.spentMs - paidMs)
      this.#serve(caller)
      const isDone = caller.waiting.length === 0 && caller.spentMs === 0 && caller.restsUntilMs <= this.#nowMs()
      if (isDone) this.#callers.delete(id)
      else nextMs = Math.min(nextMs, caller.restsUntilMs)
    }
    this.#goOn(nextMs)
  }

  /** One turn after the other while all rest would keep a processor busy. */
  #goOn(nextMs: number): void {
    clearTimeout(this.#rest)
    const restMs = nextMs - this.#nowMs()
    if (this.#callers.size > 0 && restMs <= 0) this.#schedule()
    else if (this.#callers.size > 0) this.#rest = setTimeout(() => this.#schedule(), restMs)
  }
}

function perform({ run, onThrown }: Work): void {
  try {
    run()
  } catch (error) {
    onThrown(error)
  }
}
