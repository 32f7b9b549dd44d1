/** Numbers in [0, 1) that a seed repeats (the generator mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Choices that a seed repeats. */
export interface Choices {
  /** A whole number from 0 to below `count`. */
  below(count: number): number
  pick<T>(items: readonly T[]): T
  chance(probability: number): boolean
}

export function choicesFrom(seed: number): Choices {
  const next = randomFrom(seed)
  const below = (count: number) => Math.floor(next() * count)
  return {
    below,
    pick: items => {
      // What is picked may well be undefined.
      for (const item of items.slice(below(items.length))) return item
      throw new RangeError('nothing to pick from')
    },
    chance: probability => next() < probability,
  }
}

/** The seed of this run: from the environment, or from the clock. To be printed, so that the run can be repeated. */
export function seedOfRun(): number {
  return Number(process.env['OVS_BRIDGED_TEST_SEED'] ?? Date.now() % 1_000_000)
}
