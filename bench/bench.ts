import type { Attack } from '../test/support/attackers.js'

/** One bench: what the service does, against the same work done by hand, on the same machine in the same minutes. */
export interface Bench {
  readonly name: string
  /** One sentence for the list of benches. */
  readonly about: string
  run(settings: Settings): Promise<Figure[]>
}

export interface Settings {
  /** Tiny sizes: shows that a bench works, and says nothing about times. */
  readonly smoke: boolean
  /** Leaves out the largest sizes. */
  readonly quick: boolean
  /** How often each side is run. */
  readonly rounds: number
  /** Where the daemon leaves its CPU profiles; undefined: it is not profiled. */
  readonly profileDirectory: string | undefined
  /** Of the bench of attacks these only; none: all. */
  readonly attacks: readonly Attack[]
  readonly signal: AbortSignal
}

/** What a figure is to come to. */
export type Aim =
  /** The other side takes at least this many times as long. */
  | { readonly kind: 'times-faster'; readonly atLeast: number }
  /** Of a rate: ours is at least this many times the other side's. */
  | { readonly kind: 'times-as-many'; readonly atLeast: number }
  /** We take at most this many times as long as the other side. */
  | { readonly kind: 'times-as-long'; readonly atMost: number }
  /** Our own figure, in its unit. */
  | { readonly kind: 'value'; readonly atMost: number }

/** One line of the table. `ours[i]` and `theirs[i]` were measured one after the other. */
export interface Figure {
  readonly name: string
  /** Of both sides. */
  readonly unit: 'ms' | 'flows' | 'calls/s' | 'packets/s' | 'ns/packet' | 'bytes/port' | '% of a core' | 'MiB'
  readonly ours: readonly number[]
  readonly theirs?: readonly number[]
  readonly aim?: Aim
}

type Sides<T> = { readonly [K in keyof T]: () => Promise<T[K]> }
type Samples<T> = { readonly [K in keyof T]: T[K][] }

/**
 * Runs each side once a round, another one first each time, so that what else the machine does falls on all of them
 * alike. The i-th sample of each side is from the i-th round.
 */
export async function inTurn<T>(rounds: number, sides: Sides<T>): Promise<Samples<T>> {
  const names = Object.keys(sides) as (keyof T)[]
  const samples = Object.fromEntries(names.map(name => [name, []])) as unknown as Samples<T>
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < names.length; i++) {
      const name = names[(round + i) % names.length]
      if (name !== undefined) samples[name].push(await sides[name]())
    }
  }
  return samples
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now()
  await work()
  return performance.now() - startedAt
}

/** Runs `work` for each item, as many at a time as there are callers, each of which takes the next when it is done. */
export async function byCallers<T>(callers: number, items: readonly T[], work: (item: T) => Promise<unknown>) {
  const queue = items.values()
  const caller = async () => {
    for (const item of queue) await work(item)
  }
  await Promise.all(Array.from({ length: callers }, caller))
}

/** The value below which `share` of the samples lie; 0.5: the median. */
export function quantile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const place = (sorted.length - 1) * share
  const below = sorted[Math.floor(place)] ?? Number.NaN
  const above = sorted[Math.ceil(place)] ?? Number.NaN
  return below + (above - below) * (place - Math.floor(place))
}

export function tapNames(count: number, first = 0): string[] {
  return Array.from({ length: count }, (_, i) => `b${first + i}`)
}
