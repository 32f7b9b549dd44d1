import { setTimeout as delay } from 'node:timers/promises'
import { connectTo, RpcError } from '../support/rpc.js'

/** A tap as its client has been told that it is; undefined: that there is none. */
export type Belief = { readonly vlan: number; readonly rate: string } | undefined

export interface Tally {
  /** Durations of calls that succeeded, in milliseconds. */
  readonly changesMs: number[]
  readonly readsMs: number[]
  /** How often each code was the answer. */
  readonly failures: Map<string, number>
}

/**
 * What may be the answer while a process of Open vSwitch is away, and after: ALREADY_EXISTS while the device of a creation
 * whose outcome was unknown is yet to be taken back.
 */
const expected = new Set([
  'UNAVAILABLE',
  'UNKNOWN',
  'DEADLINE_EXCEEDED',
  'FAILED_PRECONDITION',
  'ABORTED',
  'ALREADY_EXISTS',
])

/** A client that works on taps of its own until the signal, and what it believes of them then. */
export class SoakClient implements Disposable {
  readonly beliefs = new Map<string, Belief>()
  /** Taps whose last change was not acknowledged. */
  readonly #doubtful = new Set<string>()
  readonly #connection: ReturnType<typeof connectTo>
  readonly #tally: Tally
  readonly #random: () => number
  readonly #names: readonly string[]

  constructor(address: string, index: number, tally: Tally, random: () => number) {
    this.#connection = connectTo(address)
    this.#tally = tally
    this.#random = random
    this.#names = Array.from({ length: 6 }, (_, i) => `soak${index}-${i}`)
  }

  async run(signal: AbortSignal): Promise<void> {
    const watching = this.#watch(signal)
    while (!signal.aborted) {
      const tap = this.#names[Math.floor(this.#random() * this.#names.length)] ?? ''
      if (this.#random() < 0.6) await this.#read(tap)
      else await this.#change(tap)
      await delay(20 + this.#random() * 60)
    }
    await watching
  }

  /** Makes every belief one that an answer stands for. */
  async settle(): Promise<void> {
    for (const tap of [...this.#doubtful]) await this.#startOver(tap)
  }

  [Symbol.dispose](): void {
    this.#connection[Symbol.dispose]()
  }

  async #change(tap: string): Promise<void> {
    const { api } = this.#connection
    if (this.#doubtful.has(tap)) return await this.#startOver(tap)
    const belief = this.beliefs.get(tap)
    const vlan = Math.floor(this.#random() * 4095)
    const rate = `${1 + Math.floor(this.#random() * 100)}mbit`
    const dice = this.#random()
    if (belief === undefined) await this.#try(tap, { vlan, rate: '' }, () => api.createTap({ tap, vlan }))
    else if (dice < 0.4) await this.#try(tap, undefined, () => api.destroyTap({ tap }))
    else if (dice < 0.7) await this.#try(tap, { ...belief, vlan }, () => api.moveTap({ tap, vlan }))
    else await this.#try(tap, { ...belief, rate }, () => api.updateQos({ tap, qos: { rate } }))
  }

  /** A change that makes of a tap what `belief` says: believed when it is acknowledged. */
  async #try(tap: string, belief: Belief, change: () => Promise<unknown>): Promise<void> {
    if (await this.#timed(this.#tally.changesMs, change)) this.beliefs.set(tap, belief)
    else this.#doubtful.add(tap)
  }

  async #read(tap: string): Promise<void> {
    const { api } = this.#connection
    const dice = this.#random()
    await this.#timed(this.#tally.readsMs, () => {
      if (dice < 0.4) return api.listTaps({ pageSize: 100 })
      if (dice < 0.6) return api.listBridges()
      if (dice < 0.8) return api.getBandwidth()
      return api.getTap({ tap }).catch(ifNotFound)
    })
  }

  async #timed(durationsMs: number[], call: () => Promise<unknown>): Promise<boolean> {
    const began = performance.now()
    try {
      await call()
      durationsMs.push(performance.now() - began)
      return true
    } catch (error) {
      if (!(error instanceof RpcError) || !expected.has(error.code)) throw error
      const { failures } = this.#tally
      failures.set(error.code, (failures.get(error.code) ?? 0) + 1)
      return false
    }
  }

  /** Destroys a tap of which nobody knows whether its last change took place. */
  async #startOver(tap: string): Promise<void> {
    for (let attempt = 0; attempt < 300; attempt++) {
      try {
        await this.#connection.api.destroyTap({ tap }).catch(ifNotFound)
        this.beliefs.set(tap, undefined)
        this.#doubtful.delete(tap)
        return
      } catch (error) {
        if (!(error instanceof RpcError) || !expected.has(error.code)) throw error
        await delay(200)
      }
    }
    throw new Error(`${tap} cannot be destroyed`)
  }

  /** Watches, and begins again whenever the stream ends. */
  async #watch(signal: AbortSignal): Promise<void> {
    const { api } = this.#connection
    while (!signal.aborted) {
      using stream = this.#random() < 0.5 ? api.watchTaps() : api.watchTapStats()
      try {
        while (!signal.aborted) await stream.next('a batch', 20_000)
      } catch (error) {
        if (error instanceof RpcError && !expected.has(error.code)) throw error
        await delay(200)
      }
    }
  }
}

function ifNotFound(error: unknown): undefined {
  if (error instanceof RpcError && error.code === 'NOT_FOUND') return undefined
  throw error
}
