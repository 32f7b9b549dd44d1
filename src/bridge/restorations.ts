/** The two sides of a tap's link. Each is put back, and fails, on its own. */
export type Direction = 'toEndpoint' | 'fromEndpoint'

export const directions: readonly Direction[] = ['toEndpoint', 'fromEndpoint']

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

/** After a change by a call, or by somebody else, the next attempt may fare better: failures count from here. */
export function hopeful(former: Restorations): Restorations {
  return { ...former, failures: 0 }
}

export function failed(former: Restorations, nowMs: number): Restorations {
  return { ...former, failures: former.failures + 1, lastAtMs: nowMs }
}

/** What was done in this run for each tap in one direction, and when the next look at it is due. */
export class RestorationLog {
  readonly #byName = new Map<string, Restorations>()
  readonly #dueMs = new Map<string, number>()

  timesRestored(name: string): number {
    return this.#get(name).times
  }

  /** Whether it is too early for another attempt. */
  mustWait(name: string): boolean {
    return notBeforeMs(this.#get(name)) > performance.now()
  }

  attempted(name: string): void {
    this.#byName.set(name, attempted(this.#get(name), performance.now()))
  }

  succeeded(name: string): void {
    this.#byName.set(name, succeeded(this.#get(name), performance.now()))
  }

  failed(name: string): void {
    this.#byName.set(name, failed(this.#get(name), performance.now()))
  }

  /** The next attempt may be as soon as if none had failed. */
  encourage(name: string): void {
    const former = this.#byName.get(name)
    if (former !== undefined) this.#byName.set(name, hopeful(former))
  }

  /** When to look at a tap, in `afterMs` or when the next attempt may be; undefined when a look is due by then anyway. */
  plan(name: string, afterMs: number): number | undefined {
    const dueMs = Math.max(notBeforeMs(this.#get(name)), performance.now() + afterMs)
    if ((this.#dueMs.get(name) ?? Number.POSITIVE_INFINITY) <= dueMs) return undefined
    this.#dueMs.set(name, dueMs)
    return dueMs
  }

  /** Begins the look that was planned for `dueMs`; false when one that was due earlier has taken its place. */
  begin(name: string, dueMs: number): boolean {
    return this.#dueMs.get(name) === dueMs && this.#dueMs.delete(name)
  }

  forget(isGone: (name: string) => boolean): void {
    for (const name of this.#byName.keys()) if (isGone(name)) this.#byName.delete(name)
  }

  #get(name: string): Restorations {
    return this.#byName.get(name) ?? noRestorations
  }
}
