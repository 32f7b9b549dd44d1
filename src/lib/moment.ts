/** A moment by two clocks: the first never jumps, the second is that of the world. */
export interface Moment {
  readonly steadyMs: number
  readonly epochMs: number
}

export function now(): Moment {
  return { steadyMs: performance.now(), epochMs: Date.now() }
}
