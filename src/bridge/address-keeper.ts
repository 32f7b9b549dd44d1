import { abortScope } from '../lib/abort.js'
import type { SeenAddress } from './address-list.js'
import type { Committer, Part } from './commit.js'
import type { Notice } from './notice.js'
import type { OvsClient } from './ovs.js'
import { addressMark } from './ownership-tap.js'
import type { TapRecords } from './tap-records.js'

export interface KeeperGrounds {
  readonly ovsdb: OvsClient
  readonly records: TapRecords
  readonly committer: Committer
  readonly lifetime: AbortSignal
  readonly notice: Notice
}

/** So much later, what was learned meanwhile is written in one transaction, and not more often than once a second. */
const bundleMs = 20
const leastIntervalMs = 1_000
const timeoutMs = 30_000
/** When the daemon ends, nobody waits longer. */
const lastTimeoutMs = 2_000

/**
 * Writes the addresses of taps into their records, those of many taps at a time and without ovs-vswitchd, which does not
 * look at them. What cannot be written now is written when the database is back.
 */
export class AddressKeeper implements AsyncDisposable {
  readonly #grounds: KeeperGrounds
  readonly #addressesOf: (tap: string) => readonly SeenAddress[]
  readonly #due = new Set<string>()
  readonly #keptAtMs = new Map<string, number>()
  #wroteAtMs = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> | undefined

  constructor(grounds: KeeperGrounds, addressesOf: (tap: string) => readonly SeenAddress[]) {
    this.#grounds = grounds
    this.#addressesOf = addressesOf
  }

  /** The tap's addresses are to be written soon. */
  keep(tap: string): void {
    this.#due.add(tap)
    const waitMs = Math.max(this.#wroteAtMs + leastIntervalMs - performance.now(), bundleMs)
    this.#timer ??= setTimeout(() => this.#begin(), waitMs).unref()
  }

  /** They are to be written if they were not for `stepMs`: only their times have changed. */
  refresh(tap: string, stepMs: number): void {
    if (performance.now() - (this.#keptAtMs.get(tap) ?? Number.NEGATIVE_INFINITY) >= stepMs) this.keep(tap)
  }

  /** The tap is gone, and its record with it. */
  forget(tap: string): void {
    this.#due.delete(tap)
    this.#keptAtMs.delete(tap)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearTimeout(this.#timer)
    await this.#writing
    await this.#write(lastTimeoutMs)
    clearTimeout(this.#timer)
  }

  #begin(): void {
    this.#wroteAtMs = performance.now()
    this.#writing = this.#write(timeoutMs).finally(() => {
      this.#timer = undefined
      this.#writing = undefined
      const [next] = this.#due
      if (next !== undefined) this.keep(next)
    })
  }

  async #write(withinMs: number): Promise<void> {
    const { ovsdb, committer, lifetime, notice } = this.#grounds
    if (this.#due.size === 0 || ovsdb.status.state !== 'ready') return
    using scope = abortScope({ deadline: Date.now() + withinMs, parents: [lifetime] })
    const call = { signal: scope.signal, caller: 'addresses' }
    const taps = [...this.#due]
    this.#due.clear()
    const written = taps.map(async tap => {
      try {
        await committer.commit(this.#part(tap), call)
        return undefined
      } catch (error) {
        this.#due.add(tap)
        return { error }
      }
    })
    const failed = (await Promise.all(written)).find(outcome => outcome !== undefined)
    if (failed !== undefined && !lifetime.aborted) {
      notice('warn', 'addresses could not be kept; trying again', { taps: this.#due.size, error: failed.error })
    }
  }

  #part(tap: string): Part<void> {
    return {
      owns: [tap],
      needs: [],
      reconfigures: false,
      write: transaction => {
        const kept = this.#grounds.records.get(tap)
        if (kept === undefined || kept.record.defunct) return () => undefined
        transaction.setKeys('QoS', kept.uuid, 'external_ids', addressMark(this.#addressesOf(tap)))
        this.#keptAtMs.set(tap, performance.now())
        return () => undefined
      },
    }
  }
}
