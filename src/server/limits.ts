/** What callers may use of the server at most. */
export interface Limits {
  /** Connections in all. */
  readonly connections: number
  /** Unary calls at the same time, in all and on one connection. */
  readonly calls: number
  readonly callsPerConnection: number
  /** Streams at the same time, in all and on one connection. */
  readonly streams: number
  readonly streamsPerConnection: number
  /** New calls and streams a second on one connection; a second's worth may come at once. */
  readonly callsPerSecond: number
  /** Bytes of one message: it is decoded in one go, so that others wait for as long as it may take. */
  readonly messageBytes: number
  /** From a stranger's connection at a TLS door to its turn to shake hands, and from there to when the client is known. */
  readonly handshakeTimeoutMs: number
  /** From a call's headers to the end of its request, and from its answer to the end of sending it. */
  readonly transferMs: number
  /** Silence after which a connection is asked whether it is alive, and how long it may take to say so. */
  readonly keepaliveMs: number
  readonly keepaliveTimeoutMs: number
}

export const defaultLimits: Limits = {
  connections: 1_024,
  calls: 1_024,
  callsPerConnection: 512,
  streams: 2_048,
  streamsPerConnection: 1_024,
  callsPerSecond: 10_000,
  messageBytes: 512 * 1024,
  handshakeTimeoutMs: 10_000,
  transferMs: 20_000,
  keepaliveMs: 60_000,
  keepaliveTimeoutMs: 20_000,
}

/**
 * Places that holders share: who asks gets one while it has fewer than are left. So one holder can have half of them, two
 * a third each, and however many there are, another finds some.
 */
export class Share {
  readonly #total: number
  readonly #held = new Map<string, number>()
  #used = 0

  constructor(total: number) {
    this.#total = total
  }

  get used(): number {
    return this.#used
  }

  take(holder: string): boolean {
    const held = this.#held.get(holder) ?? 0
    if (held >= this.#total - this.#used) return false
    this.#held.set(holder, held + 1)
    this.#used++
    return true
  }

  giveBack(holder: string): void {
    const held = this.#held.get(holder) ?? 0
    if (held === 0) return
    if (held === 1) this.#held.delete(holder)
    else this.#held.set(holder, held - 1)
    this.#used--
  }
}

/** A token bucket that holds one second's worth. Times are milliseconds of any steady clock. */
export class Rate {
  readonly #perSecond: number
  #left: number
  #at: number

  constructor(perSecond: number, nowMs: number) {
    this.#perSecond = perSecond
    this.#left = perSecond
    this.#at = nowMs
  }

  take(nowMs: number): boolean {
    const earned = ((nowMs - this.#at) * this.#perSecond) / 1_000
    this.#left = Math.min(this.#perSecond, this.#left + earned)
    this.#at = nowMs
    if (this.#left < 1) return false
    this.#left--
    return true
  }
}
