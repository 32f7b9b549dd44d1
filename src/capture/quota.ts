import { sharing } from '../lib/sharing.js'
import { bytesBelow } from './capture-file.js'

/** Where captures are written. */
export interface CaptureStore {
  /** Absolute. */
  readonly directory: string
  /** Of all files in it together, whoever made them; undefined: no limit. */
  readonly quotaBytes: number | undefined
}

/**
 * What all threads see of the quota: by how many bytes captures have made files grow so far, what they removed again taken
 * off; and what that may come to.
 */
export type Ledger = BigInt64Array

const places = { grown: 0, limit: 1 } as const
const noLimit = 2n ** 62n

function read(ledger: Ledger, place: keyof typeof places): number {
  return Number(Atomics.load(ledger, places[place]))
}

/** For this many times as long as measuring has taken, what it has found is believed. */
const believedTimes = 10

/**
 * The main thread's side. Measuring takes a while where files are many, so it is not done for every capture: what captures
 * write is counted anyway, and what others do is seen a little later, but before anything is refused or ended.
 */
export class Quota {
  readonly ledger: Ledger = new BigInt64Array(new SharedArrayBuffer(8 * Object.keys(places).length))
  readonly #store: CaptureStore
  readonly #measure = sharing(() => this.#sum())
  #measuring: Promise<void> = Promise.resolve()
  #believedUntilMs = Number.NEGATIVE_INFINITY

  constructor(store: CaptureStore) {
    this.#store = store
    if (store.quotaBytes === undefined) Atomics.store(this.ledger, places.limit, noLimit)
  }

  /** Whether files may grow at all. */
  async hasRoom(): Promise<boolean> {
    if (this.#store.quotaBytes === undefined) return true
    if (performance.now() >= this.#believedUntilMs || leftBytes(this.ledger) <= 0) await this.measure()
    return leftBytes(this.ledger) > 0
  }

  /** Resolves when the limit is from a measurement that began after the call. */
  async measure(): Promise<void> {
    await this.#measuring
    this.#measuring = this.#measure()
    await this.#measuring
  }

  async #sum(): Promise<void> {
    const { directory, quotaBytes = 0 } = this.#store
    const beganMs = performance.now()
    // Before: what is written meanwhile is rather counted twice than not at all.
    const grown = read(this.ledger, 'grown')
    const limit = grown + quotaBytes - (await bytesBelow(directory))
    Atomics.store(this.ledger, places.limit, BigInt(limit))
    const endedMs = performance.now()
    this.#believedUntilMs = endedMs + believedTimes * (endedMs - beganMs)
  }
}

function leftBytes(ledger: Ledger): number {
  return read(ledger, 'limit') - read(ledger, 'grown')
}

/** The side of the thread that captures. */
export class QuotaView {
  readonly #ledger: Ledger
  readonly #ask: (ticket: number) => void
  #lastTicket = 0
  #answered = 0

  /** `ask` has the main thread measure. */
  constructor(ledger: Ledger, ask: (ticket: number) => void) {
    this.#ledger = ledger
    this.#ask = ask
  }

  get leftBytes(): number {
    return leftBytes(this.#ledger)
  }

  /** Below zero: files have shrunk. */
  grow(bytes: number): void {
    Atomics.add(this.#ledger, places.grown, BigInt(bytes))
  }

  /** Has the files measured; the ticket is for {@link isMeasured}. */
  requestMeasure(): number {
    this.#ask(++this.#lastTicket)
    return this.#lastTicket
  }

  /** Measured since the ticket was given out. */
  isMeasured(ticket: number): boolean {
    return ticket <= this.#answered
  }

  /** The main thread has measured. */
  answer(ticket: number): void {
    this.#answered = Math.max(this.#answered, ticket)
  }
}
