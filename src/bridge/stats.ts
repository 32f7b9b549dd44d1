import { type AbortScope, abortScope, cancelled, raceAbort, sleep } from '../lib/abort.js'
import { type Moment, now } from '../lib/moment.js'
import { type Tick, Ticker } from '../lib/ticker.js'
import { inTurns } from '../lib/turns.js'
import type { Change } from '../ovsdb/index.js'
import type { Part } from './commit.js'
import type { Counters } from './counters.js'
import { onlyStatistics } from './events.js'
import type { Host } from './host.js'
import { managedBridge } from './inventory.js'
import { newLinkDumps } from './link-dumps.js'
import { CounterBases, type Measured, Meter, type Rate, type Reading, type Taking } from './meter.js'
import type { BridgeName, PortName } from './names.js'
import { type OvsRows, rootOf } from './ovs.js'
import { countedMark, type TapRecord } from './ownership-tap.js'
import { type BridgeError, exhausted, tapNotFound } from './problem.js'
import { readLink, readReplica } from './tap-readings.js'

export interface TapStats extends Measured {
  readonly tap: TapRecord
}

/** What a tap has counted, with where it is; no bridge: it is detached. */
export interface TapTotal {
  readonly tap: PortName
  readonly bridge: BridgeName | ''
  readonly counters: Counters
}

/** All taps that are not defunct, by name. */
export type StatsTick = readonly TapStats[]

/** The rate of one tap, or of some together. */
export interface Bandwidth {
  readonly rate: Rate
  /** That it is averaged over, of the tap that has most. */
  readonly intervals: number
}

/** ovs-vswitchd.conf.db(5), other_config:stats-update-interval: its default and least. */
export const usualIntervalMs = 5_000

/** Different intervals beside that: for each, ten rates of every tap are kept, some megabytes with thousands of them. */
const maxOtherIntervals = 16

/** Longer than ovs-vswitchd ever is late by itself; then it is asked whether it lives. */
const patienceMs = 500

/**
 * Counters and rates of all taps. Every 5 s ovs-vswitchd tells them by itself; nobody asks it for them. Who wants them at
 * another interval is served from rtnetlink dumps, which all of them share, for as long as there are any.
 */
export class Stats implements Disposable {
  readonly #host: Host
  readonly #bases = new CounterBases()
  readonly #meter = new Meter(this.#bases)
  readonly #ticker = new Ticker<StatsTick>()
  readonly #others = new Map<number, OtherInterval>()
  readonly #dumps: ReturnType<typeof newLinkDumps>
  readonly #scope: AbortScope
  readonly #following: Disposable
  #lastTickMs = performance.now()
  #working = Promise.resolve()
  #keeping = false

  constructor(host: Host) {
    this.#host = host
    this.#scope = abortScope({ parents: [host.lifetime] })
    this.#dumps = newLinkDumps(() => host.kernel.listLinks(this.#scope.signal))
    this.#following = host.ovsdb.subscribe(changes => isReport(changes) && this.#report())
    void this.#runIdle()
  }

  [Symbol.dispose](): void {
    this.#following[Symbol.dispose]()
    this.#scope.abort(cancelled('statistics are no longer kept'))
    this.#scope[Symbol.dispose]()
  }

  /** Over intervals of 5 s. Errors: `not-found`. */
  bandwidthOfTap(name: PortName): Bandwidth {
    const kept = this.#host.records.get(name)
    if (kept === undefined || kept.record.defunct) throw tapNotFound(name)
    return this.#meter.measured(kept.record.id)
  }

  /** The sum over the taps of a bridge; undefined: of all bridges. Errors: `not-found`. */
  bandwidthOfBridge(bridge: BridgeName | undefined): Bandwidth {
    if (bridge !== undefined) managedBridge(this.#host, bridge)
    const taps = present(this.#host).filter(tap => bridge === undefined || tap.bridge === bridge)
    const each = taps.map(tap => this.#meter.measured(tap.id))
    return {
      rate: {
        rx: each.reduce((total, { rate }) => total + rate.rx, 0),
        tx: each.reduce((total, { rate }) => total + rate.tx, 0),
      },
      intervals: each.reduce((most, { intervals }) => Math.max(most, intervals), 0),
    }
  }

  /** What each tap has counted in all, of those of which anything has been told; in no order. */
  totals(): TapTotal[] {
    const totals: TapTotal[] = []
    for (const { id, name, bridge } of present(this.#host)) {
      const counters = this.#meter.total(id)
      if (counters !== undefined) totals.push({ tap: name, bridge: bridge ?? '', counters })
    }
    return totals
  }

  /**
   * A tick every `intervalMs` from now on, until the signal, with whose reason it rejects. Errors: `exhausted` when others
   * are served at as many intervals as can be.
   */
  async *watch(intervalMs: number, signal: AbortSignal): AsyncGenerator<Tick<StatsTick>, never> {
    if (intervalMs === usualIntervalMs) return yield* this.#ticker.watch(signal)
    const shared = this.#others.get(intervalMs) ?? this.#begin(intervalMs)
    try {
      return yield* shared.ticker.watch(signal)
    } finally {
      if (!shared.ticker.isRead && this.#others.get(intervalMs) === shared) {
        this.#others.delete(intervalMs)
        shared.scope.abort(cancelled('nobody reads these any more'))
        if (this.#others.size === 0) this.#dumps.forget()
      }
    }
  }

  /** ovs-vswitchd has written what its counters are now. */
  #report(): void {
    this.#lastTickMs = performance.now()
    const at = now()
    void this.#next(async () => {
      const host = this.#host
      await takeInTurns(this.#meter.begin(at, reportIntervalMs(host)), host, tap => readReplica(host, tap))
      await this.#settle()
    })
  }

  /** One reading is worked through after the other, with thousands of taps over many turns of the loop. */
  #next(work: () => Promise<void>): Promise<void> {
    this.#working = this.#working.then(work).catch((error: unknown) => {
      if (!this.#scope.signal.aborted) this.#host.notice('warn', 'statistics were not read; trying again', { error })
    })
    return this.#working
  }

  /** What follows every reading; most often nobody waits for it. */
  async #settle(): Promise<void> {
    this.#forgetGone()
    void this.#keepBases()
    if (this.#ticker.isRead) this.#ticker.publish(await tickOf(this.#host, this.#meter))
  }

  /** Those who are gone are looked for when more is known than there are taps. */
  #forgetGone(): void {
    const { records } = this.#host
    const most = records.size - records.defunct.size
    if (this.#bases.size <= most && this.#meter.size <= most) return
    const ids = new Set(present(this.#host).map(({ id }) => id))
    this.#bases.keepOnly(ids)
    this.#meter.keepOnly(ids)
  }

  /** Into the records, for the next run of the service: without it the counters would fall back at a restart. */
  async #keepBases(): Promise<void> {
    if (this.#keeping) return
    const unkept = present(this.#host).filter(({ id, counted }) => {
      const base = this.#bases.get(id)
      return base !== undefined && base.ifindex !== counted?.ifindex
    })
    if (unkept.length === 0) return
    this.#keeping = true
    try {
      using scope = abortScope({ deadline: Date.now() + usualIntervalMs, parents: [this.#scope.signal] })
      await this.#host.committer.commit(this.#keepingOf(unkept), { signal: scope.signal, caller: 'stats' })
    } catch (error) {
      if (!this.#scope.signal.aborted) this.#host.notice('warn', 'counters were not kept; trying again', { error })
    } finally {
      this.#keeping = false
    }
  }

  #keepingOf(taps: readonly TapRecord[]): Part<void> {
    return {
      owns: taps.map(({ name }) => name),
      needs: [],
      reconfigures: false,
      write: transaction => {
        for (const { name, id } of taps) {
          const kept = this.#host.records.get(name)
          const base = this.#bases.get(id)
          if (kept?.record.id !== id || base === undefined) continue
          transaction.setKeys('QoS', kept.uuid, 'external_ids', countedMark(base))
        }
        return () => undefined
      },
    }
  }

  /** ovs-vswitchd writes only what has changed, and so on a quiet host nothing at all: the ticks go on without it. */
  async #runIdle(): Promise<void> {
    const { signal } = this.#scope
    const host = this.#host
    while (!signal.aborted) {
      try {
        const lastMs = this.#lastTickMs
        const dueMs = lastMs + reportIntervalMs(host)
        await sleep(Math.max(dueMs + patienceMs - performance.now(), 1), signal)
        if (this.#lastTickMs !== lastMs) continue
        const lives =
          host.ovsdb.status.state === 'ready' && (await host.askVswitchd(signal).catch(() => undefined)) !== undefined
        if (this.#lastTickMs !== lastMs) continue
        this.#lastTickMs = dueMs
        await this.#next(async () => {
          if (lives) await this.#idle(now())
          else this.#meter.silent()
          await this.#settle()
        })
      } catch (error) {
        if (!signal.aborted) host.notice('warn', 'statistics were not read; trying again', { error })
      }
    }
  }

  async #idle(at: Moment): Promise<void> {
    this.#meter.idle([], at)
    await inTurns(present(this.#host), tap => {
      if (!this.#meter.knows(tap.id)) this.#meter.greet(readReplica(this.#host, tap), at)
    })
  }

  #begin(intervalMs: number): OtherInterval {
    if (this.#others.size >= maxOtherIntervals) throw tooManyIntervals([...this.#others.keys()])
    const scope = abortScope({ parents: [this.#scope.signal] })
    const other = { ticker: new Ticker<StatsTick>(), scope }
    this.#others.set(intervalMs, other)
    void this.#runDumps(new Meter(this.#bases), intervalMs, other)
    return other
  }

  /** One reading of all links an interval, until nobody wants it. */
  async #runDumps(meter: Meter, intervalMs: number, { ticker, scope }: OtherInterval): Promise<void> {
    const host = this.#host
    const { signal } = scope
    let dueMs = performance.now()
    while (!signal.aborted) {
      try {
        const { links, at } = await raceAbort(this.#dumps.latest(), signal)
        await takeInTurns(meter.begin(at, intervalMs), host, tap => readLink(host, links, tap))
        ticker.publish(await tickOf(host, meter))
      } catch (error) {
        if (!signal.aborted) host.notice('warn', 'the counters of the links were not read; trying again', { error })
      }
      // A dump that took longer than its interval makes the next one late, not two at once.
      dueMs = Math.max(dueMs + intervalMs, performance.now())
      await sleep(dueMs - performance.now(), signal).catch(() => undefined)
    }
    scope[Symbol.dispose]()
  }
}

interface OtherInterval {
  readonly ticker: Ticker<StatsTick>
  readonly scope: AbortScope
}

function tooManyIntervals(servedMs: number[]): BridgeError {
  const served = servedMs.sort((a, b) => a - b).join(', ')
  return exhausted(
    `statistics are served at ${maxOtherIntervals} intervals beside that of 5 s already; take one of ${served} ms, or try again later`,
  )
}

/**
 * Whether a transaction is ovs-vswitchd's report: counters and nothing else, and not only first ones of ports that it
 * has made.
 */
export function isReport(changes: readonly Change<OvsRows>[]): boolean {
  let hasCountedBefore = false
  for (const change of changes) {
    if (change.table !== 'Interface' || change.kind !== 'modify' || !onlyStatistics(change)) return false
    hasCountedBefore ||= change.before.statistics.size > 0
  }
  return hasCountedBefore
}

function reportIntervalMs(host: Host): number {
  const configured = Number(rootOf(host.ovsdb.replica)?.other_config.get('stats-update-interval') ?? 0)
  return Math.max(Number.isFinite(configured) ? configured : 0, usualIntervalMs)
}

/** In no order. */
function present(host: Host): TapRecord[] {
  const taps: TapRecord[] = []
  for (const { record } of host.records.all()) if (!record.defunct) taps.push(record)
  return taps
}

async function takeInTurns(taking: Taking, host: Host, read: (tap: TapRecord) => Reading): Promise<void> {
  await inTurns(present(host), tap => taking.add(read(tap)))
  taking.end()
}

async function tickOf(host: Host, meter: Meter): Promise<StatsTick> {
  const taps = present(host).sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
  const tick: TapStats[] = []
  await inTurns(taps, tap => tick.push({ tap, ...meter.measured(tap.id) }))
  return tick
}
