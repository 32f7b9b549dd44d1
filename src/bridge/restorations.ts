/** What was done in this run to put something back that others take away. Times are by performance.now(). */
export interface Restorations {
  /** How often it was put back. */
  readonly times: number
  /** Attempts that have failed since. */
  readonly failures: number
  readonly lastAtMs: number
}

export const noRestorations: Restorations = { times: 0, failures: 0, lastAtMs: Number.NEGATIVE_INFINITY }

/** Whoever takes something away again and again is not answered blow for blow. */
const leastIntervalMs = 1_000
/** What cannot be put back may cost ovs-vswitchd a walk over all its ports each time. */
const mostIntervalMs = 60_000

/** When the next attempt may be: after each failure in twice the time. */
export function notBeforeMs({ failures, lastAtMs }: Restorations): number {
  return lastAtMs + Math.min(leastIntervalMs * 2 ** failures, mostIntervalMs)
}

export function attempted(former: Restorations, nowMs: number): Restorations {
  return { ...former, lastAtMs: nowMs }
}

export function succeeded({ times }: Restorations, nowMs: number): Restorations {
  return { times: times + 1, failures: 0, lastAtMs: nowMs }
}

export function failed(former: Restorations, nowMs: number): Restorations {
  return { ...former, failures: former.failures + 1, lastAtMs: nowMs }
}
