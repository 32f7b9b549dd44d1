import { sharing } from '../lib/sharing.js'
import { bytesBelow } from './capture-file.js'

/** By how many bytes captures have made files grow so far; what they removed again is taken off. All threads see it. */
export type Growth = BigInt64Array

export function newGrowth(): Growth {
  return new BigInt64Array(new SharedArrayBuffer(8))
}

export function readGrowth(growth: Growth): number {
  return Number(Atomics.load(growth, 0))
}

/** What the thread that captures keeps to. */
export class GrowthLimit {
  readonly #growth: Growth
  /** What the growth may come to. */
  bytes = Number.POSITIVE_INFINITY

  constructor(growth: Growth) {
    this.#growth = growth
  }

  get leftBytes(): number {
    return this.bytes - readGrowth(this.#growth)
  }

  /** Below zero: files have shrunk. */
  grow(bytes: number): void {
    Atomics.add(this.#growth, 0, BigInt(bytes))
  }
}

/** For this many times as long as measuring has taken, what it has found is believed. */
const believedTimes = 10

/**
 * Has all files below a directory, whoever made them, together come to `quotaBytes` at most: the result tells what the growth
 * by captures may come to. Measuring takes a while where files are many, so it is not done for every capture: what captures
 * write is counted anyway, and what others do is seen a little later, but before anything is refused.
 */
export function measureGrowthLimit(
  directory: string,
  quotaBytes: number,
  grownBytes: () => number,
): () => Promise<number> {
  let limitBytes = 0
  let believedUntilMs = Number.NEGATIVE_INFINITY
  const measure = sharing(async () => {
    const beganMs = performance.now()
    // Before: what is written meanwhile is rather counted twice than not at all.
    const grown = grownBytes()
    limitBytes = grown + quotaBytes - (await bytesBelow(directory))
    const endedMs = performance.now()
    believedUntilMs = endedMs + believedTimes * (endedMs - beganMs)
  })
  return async () => {
    if (performance.now() >= believedUntilMs || limitBytes <= grownBytes()) await measure()
    return limitBytes
  }
}
