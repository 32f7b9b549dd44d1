import type { Moment } from '../lib/moment.js'
import type { CountedBefore } from './counted.js'
import { type Counters, hasShrunk, highest, noCounters, sum } from './counters.js'

/** Bytes in a second, from the endpoint's side. */
export interface Rate {
  readonly rx: number
  readonly tx: number
}

/** Counters of a device as they were read. */
export interface DeviceReading {
  /** Tells the device from one before it of the same name. */
  readonly ifindex: number
  readonly counters: Counters
}

/** What is there of a tap to be read; no device: it is detached, or not made yet. */
export interface Reading {
  /** Of its record. */
  readonly id: string
  readonly device: DeviceReading | undefined
  /** What an earlier run of the service had kept of it. */
  readonly counted?: CountedBefore | undefined
}

/** What is known of a tap. */
export interface Measured {
  /** When the counters were read, by the clock of the world; undefined: never. */
  readonly epochMs: number | undefined
  readonly total: Counters
  /** Average over `intervals`. */
  readonly rate: Rate
  /** 0: no rate yet. */
  readonly intervals: number
}

export const unmeasured: Measured = { epochMs: undefined, total: noCounters, rate: { rx: 0, tx: 0 }, intervals: 0 }

const maxIntervals = 10

/** Σ(i·rateᵢ)/Σi over the latest ten at most; `rates` is oldest first, and i is greatest for the newest. */
export function average(rates: readonly Rate[]): { readonly rate: Rate; readonly intervals: number } {
  const latest = rates.slice(-maxIntervals)
  const weights = (latest.length * (latest.length + 1)) / 2
  if (weights === 0) return { rate: { rx: 0, tx: 0 }, intervals: 0 }
  const weighted = (of: (rate: Rate) => number) =>
    latest.reduce((total, rate, index) => total + (index + 1) * of(rate), 0) / weights
  return { rate: { rx: weighted(rate => rate.rx), tx: weighted(rate => rate.tx) }, intervals: latest.length }
}

/** A tap's present device. */
interface Based {
  readonly ifindex: number
  /** What the devices before it had counted. */
  readonly base: Counters
  /** What it has been seen to count. */
  readonly highest: Counters
  /** The device before it. */
  readonly former?: { readonly ifindex: number; readonly base: Counters }
}

/** What the former devices of each tap had counted, so that a tap's counters go on when its device is made anew. */
export class CounterBases {
  readonly #taps = new Map<string, Based>()

  /** What to add to the counters of a device of the tap; `counted` is what is kept of the present one, if anything is. */
  take(id: string, { ifindex, counters }: DeviceReading, counted?: CountedBefore): Counters {
    const kept = counted?.ifindex === ifindex ? counted.counters : noCounters
    const known = this.#taps.get(id) ?? { ifindex, base: kept, highest: noCounters }
    // From a source that has not heard of the present device yet.
    if (known.former?.ifindex === ifindex) return known.former.base
    const based = known.ifindex === ifindex ? known : madeAnew(known, ifindex)
    this.#taps.set(id, { ...based, highest: highest(based.highest, counters) })
    return based.base
  }

  /** What is worth keeping of a tap; undefined: it has its first device still. */
  get(id: string): CountedBefore | undefined {
    const known = this.#taps.get(id)
    return known === undefined || known.base === noCounters
      ? undefined
      : { ifindex: known.ifindex, counters: known.base }
  }

  get size(): number {
    return this.#taps.size
  }

  keepOnly(ids: ReadonlySet<string>): void {
    keepOnly(this.#taps, ids)
  }
}

function madeAnew({ ifindex: former, base, highest: counted }: Based, ifindex: number): Based {
  return { ifindex, base: sum(base, counted), highest: noCounters, former: { ifindex: former, base } }
}

/** One tap as one source has told of it. */
interface Series {
  readonly device: DeviceReading
  /** What the device had counted before its counters began again at zero. */
  readonly lost: Counters
  readonly at: Moment
  readonly total: Counters
  /** Oldest first. */
  readonly rates: readonly Rate[]
  /** Idle intervals that the source had ever had by then. */
  readonly idle: number
  /** The device was out of sight meanwhile: what it counted there belongs to no interval. */
  readonly gap: boolean
}

/** A reading that is being taken in. */
export interface Taking {
  add(reading: Reading): void
  /** Those that were not named are forgotten. */
  end(): void
}

/**
 * The taps as one source tells of them, reading by reading. A rate is that of one device over one interval: none comes
 * from counters that began again, from a device made anew, or from a time in which the tap was detached.
 */
export class Meter {
  readonly #bases: CounterBases
  readonly #series = new Map<string, Series>()
  /** Intervals that were idle, ever. */
  #idle = 0

  constructor(bases: CounterBases) {
    this.#bases = bases
  }

  /** Takes in a reading of all taps; those that are not named are forgotten. As {@link begin}. */
  take(readings: Iterable<Reading>, at: Moment, intervalMs: number): void {
    const taking = this.begin(at, intervalMs)
    for (const reading of readings) taking.add(reading)
    taking.end()
  }

  /** Begins a reading of all taps, tap by tap. `intervalMs` is that of the source, for {@link idle}. */
  begin(at: Moment, intervalMs: number): Taking {
    const idle = this.#idle
    const ids = new Set<string>()
    return {
      add: ({ id, device, counted }) => {
        ids.add(id)
        const before = this.#series.get(id)
        if (device !== undefined) {
          const base = this.#bases.take(id, device, counted)
          const begins = before === undefined
          this.#series.set(id, begins ? begin(device, base, at, idle) : go(before, idle, intervalMs, device, base, at))
        } else if (before !== undefined) this.#series.set(id, { ...before, rates: [], idle, gap: true })
      },
      end: () => keepOnly(this.#series, ids),
    }
  }

  /** The source is well, and had nothing to tell for one interval: the counters stand still. */
  idle(readings: Iterable<Reading>, at: Moment): void {
    this.#idle++
    for (const reading of readings) this.greet(reading, at)
  }

  knows(id: string): boolean {
    return this.#series.has(id)
  }

  /** Of how many taps anything is known. */
  get size(): number {
    return this.#series.size
  }

  keepOnly(ids: ReadonlySet<string>): void {
    keepOnly(this.#series, ids)
  }

  /** Takes in a tap of which nothing is known so far, while the source has nothing to tell. */
  greet({ id, device, counted }: Reading, at: Moment): void {
    if (device === undefined || this.#series.has(id)) return
    this.#series.set(id, begin(device, this.#bases.take(id, device, counted), at, this.#idle))
  }

  /** The source is silent for an unknown reason: nobody knows a rate. */
  silent(): void {
    for (const [id, series] of this.#series) this.#series.set(id, { ...series, rates: [], idle: this.#idle })
  }

  /** All that a tap has counted; undefined: nothing is known of it. */
  total(id: string): Counters | undefined {
    return this.#series.get(id)?.total
  }

  measured(id: string): Measured {
    const series = this.#series.get(id)
    if (series === undefined) return unmeasured
    const { at, total, rates, idle } = series
    const rested = series.gap ? rates : [...rates, ...zeroes(this.#idle - idle)]
    return { epochMs: at.epochMs, total, ...average(rested) }
  }
}

function keepOnly(taps: Map<string, unknown>, ids: ReadonlySet<string>): void {
  for (const id of taps.keys()) if (!ids.has(id)) taps.delete(id)
}

function begin(device: DeviceReading, base: Counters, at: Moment, idle: number): Series {
  return { device, lost: noCounters, at, total: sum(base, device.counters), rates: [], idle, gap: false }
}

/**
 * One reading more, after intervals in which nothing was counted; `idle` is how many there ever were. The last of these
 * is none when the reading came so soon after it that it only was late.
 */
function go(
  before: Series,
  idle: number,
  intervalMs: number,
  device: DeviceReading,
  base: Counters,
  at: Moment,
): Series {
  const elapsedMs = at.steadyMs - before.at.steadyMs
  const rested = Math.max(Math.min(idle - before.idle, Math.floor(elapsedMs / intervalMs - 0.5)), 0)
  const isSame = before.device.ifindex === device.ifindex
  const restarted = isSame && hasShrunk(before.device.counters, device.counters)
  const lost = restarted ? sum(before.lost, before.device.counters) : before.lost
  const total = sum(sum(base, lost), device.counters)
  const seconds = (elapsedMs - rested * intervalMs) / 1000
  const isRate = isSame && !restarted && !before.gap && seconds > 0
  const rate = isRate
    ? [
        {
          rx: Number(total.rxBytes - before.total.rxBytes) / seconds,
          tx: Number(total.txBytes - before.total.txBytes) / seconds,
        },
      ]
    : []
  return {
    device,
    lost,
    at,
    total,
    rates: [...before.rates, ...zeroes(rested), ...rate].slice(-maxIntervals),
    idle,
    gap: false,
  }
}

function zeroes(count: number): Rate[] {
  return Array.from({ length: Math.min(count, maxIntervals) }, () => ({ rx: 0, tx: 0 }))
}
