import { abortReason } from './abort.js'

/** What became of one key; undefined stands for “not there”. */
export interface Change<V> {
  readonly key: string
  readonly before: V | undefined
  readonly after: V | undefined
}

/** What one subscriber wants to see. A value that leaves the view is gone for it, one that enters has come. */
export interface View<V> {
  /** Views of equal ids see the same, and share what is made for them. */
  readonly id: string
  includes(value: V): boolean
  /** Whether a change within the view is worth telling; all are if this is not given. */
  tells?(before: V, after: V): boolean
}

/** A state that a subscriber has seen. */
export interface Position {
  /** Names one {@link ChangeLog}. */
  readonly epoch: string
  readonly revision: number
}

/** What a subscriber is told at once. Without changes and without a flag it only says that nothing has been missed. */
export interface Batch<V> {
  /** What to resume from once this batch is taken in; 0 within a snapshot, from which nobody can. */
  readonly revision: number
  /** At most {@link maxChangesPerBatch}, and no key twice in what follows one revision. */
  readonly changes: readonly Change<V>[]
  /** Said once: with what came before, the subscriber holds all there was at `revision`. */
  readonly synced: boolean
  /** The subscriber is to forget what it holds; a snapshot follows. */
  readonly reset: boolean
  /** Changes that are not told because later ones of the same keys have replaced them. */
  readonly merged: number
}

export const maxChangesPerBatch = 500

export interface ChangeLogOptions {
  readonly epoch: string
  /** How many changes are kept for those who are behind or resume. */
  readonly maxChanges: number
  /** How long a subscriber hears nothing before it is told that there is nothing. */
  readonly heartbeatMs: number
}

export interface WatchOptions<V> {
  readonly view: View<V>
  /** Where to go on; undefined: with a snapshot. */
  readonly after: Position | undefined
  readonly signal: AbortSignal
}

interface Logged<V> extends Change<V> {
  readonly revision: number
}

/** More results than this are not shared at a time. */
const maxShared = 64

/**
 * Values by key, and the latest changes to them, for any number of subscribers. A subscriber is no more than a position:
 * it takes what has changed since whenever it has time, each key once, and what is made for one is shared by all that
 * stand at the same place with the same view. Whoever falls behind what is kept starts again with a snapshot.
 */
export class ChangeLog<V> {
  readonly #options: ChangeLogOptions
  readonly #values = new Map<string, V>()
  readonly #log: Logged<V>[] = []
  /** Results for subscribers as of the current revision. */
  readonly #shared = new Map<string, readonly Batch<V>[]>()
  readonly #waiting = new Set<() => void>()
  // 0 is no state: nobody can resume from it.
  #revision = 1
  /** Changes up to this revision are no longer kept. */
  #forgotten = 1

  constructor(options: ChangeLogOptions) {
    this.#options = options
  }

  get epoch(): string {
    return this.#options.epoch
  }

  get revision(): number {
    return this.#revision
  }

  /** Changes that are kept. */
  get size(): number {
    return this.#log.length
  }

  get(key: string): V | undefined {
    return this.#values.get(key)
  }

  /** Takes in changes that became true together: one revision. Without any, nothing happens. */
  publish(changes: readonly Change<V>[]): void {
    if (changes.length === 0) return
    const revision = ++this.#revision
    for (const { key, before, after } of changes) {
      if (after === undefined) this.#values.delete(key)
      else this.#values.set(key, after)
      this.#log.push({ key, before, after, revision })
    }
    this.#forget()
    this.#shared.clear()
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const wake of waiting) wake()
  }

  /**
   * The snapshot (or what has changed since `after`, where that is still known), `synced`, and then the changes as they
   * come. Goes on until the signal, with whose reason it rejects.
   */
  async *watch({ view, after, signal }: WatchOptions<V>): AsyncGenerator<Batch<V>, never> {
    let at = after !== undefined && this.#isKept(after) ? after.revision : undefined
    if (at !== undefined) {
      const revision = this.#revision
      yield* this.#since(view, at)
      at = revision
      yield { revision, changes: [], synced: true, reset: false, merged: 0 }
    } else if (after !== undefined) yield resetBatch
    let quietSinceMs = performance.now()
    for (;;) {
      if (at === undefined) {
        const revision = this.#revision
        yield* this.#snapshot(view)
        at = revision
        quietSinceMs = performance.now()
      }
      const quietMs = performance.now() - quietSinceMs
      if (await this.#beyond(at, this.#options.heartbeatMs - quietMs, signal)) {
        if (at < this.#forgotten) {
          at = undefined
          yield resetBatch
          continue
        }
        const revision = this.#revision
        const batches = this.#since(view, at)
        at = revision
        if (batches.length === 0) continue
        yield* batches
      } else yield { revision: at, changes: [], synced: false, reset: false, merged: 0 }
      quietSinceMs = performance.now()
    }
  }

  #isKept({ epoch, revision }: Position): boolean {
    return epoch === this.epoch && revision >= this.#forgotten && revision <= this.#revision
  }

  /** Whole revisions only: half of one is no state. In strides, so that each change is moved a few times at most. */
  #forget(): void {
    const { maxChanges } = this.#options
    if (this.#log.length <= maxChanges * 1.25) return
    let cut = this.#log.length - maxChanges
    const revision = this.#log[cut - 1]?.revision
    while (cut < this.#log.length && this.#log[cut]?.revision === revision) cut++
    this.#log.splice(0, cut)
    this.#forgotten = revision ?? this.#revision
  }

  #snapshot(view: View<V>): readonly Batch<V>[] {
    return this.#share(`${view.id} snapshot`, () => {
      const seen: Change<V>[] = []
      for (const key of [...this.#values.keys()].sort()) {
        const after = this.#values.get(key)
        if (after !== undefined && view.includes(after)) seen.push({ key, before: undefined, after })
      }
      const unresumable = split(seen, 0, 0, 0)
      return [...unresumable, { revision: this.#revision, changes: [], synced: true, reset: false, merged: 0 }]
    })
  }

  #since(view: View<V>, at: number): readonly Batch<V>[] {
    return this.#share(`${view.id} ${at}`, () => {
      const { changes, merged } = coalesce(this.#loggedAfter(at), view)
      return split(changes, at, this.#revision, merged)
    })
  }

  #share(id: string, make: () => readonly Batch<V>[]): readonly Batch<V>[] {
    const known = this.#shared.get(id)
    if (known !== undefined) return known
    const batches = make()
    if (this.#shared.size >= maxShared) this.#shared.clear()
    this.#shared.set(id, batches)
    return batches
  }

  #loggedAfter(revision: number): readonly Logged<V>[] {
    let low = 0
    let high = this.#log.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#log[middle]?.revision ?? 0) > revision) high = middle
      else low = middle + 1
    }
    return this.#log.slice(low)
  }

  /** Whether there is a later revision than `at`, waiting `forMs` for it. */
  #beyond(at: number, forMs: number, signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(abortReason(signal))
      if (this.#revision > at) return resolve(true)
      const leave = () => {
        clearTimeout(timer)
        this.#waiting.delete(wake)
        signal.removeEventListener('abort', onAbort)
      }
      const wake = () => {
        leave()
        resolve(true)
      }
      const onAbort = () => {
        leave()
        reject(abortReason(signal))
      }
      const timer = setTimeout(
        () => {
          leave()
          resolve(false)
        },
        Math.max(forMs, 0),
      )
      this.#waiting.add(wake)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }
}

const resetBatch = { revision: 0, changes: [], synced: false, reset: true, merged: 0 } as const

/** Each key once, in the order of its last change, as the view sees it: from its first state to its last. */
function coalesce<V>(
  logged: readonly Logged<V>[],
  view: View<V>,
): { readonly changes: readonly Change<V>[]; readonly merged: number } {
  const within = (value: V | undefined) => (value !== undefined && view.includes(value) ? value : undefined)
  const isTold = (before: V | undefined, after: V | undefined) => {
    if (before === undefined || after === undefined) return before !== after
    return view.tells?.(before, after) ?? true
  }
  const byKey = new Map<string, Change<V>>()
  let seen = 0
  for (const { key, ...change } of logged) {
    const before = within(change.before)
    const after = within(change.after)
    if (!isTold(before, after)) continue
    seen++
    const first = byKey.get(key)
    byKey.delete(key)
    byKey.set(key, { key, before: first === undefined ? before : first.before, after })
  }
  const changes = [...byKey.values()].filter(({ before, after }) => isTold(before, after))
  return { changes, merged: seen - changes.length }
}

/** Only the last batch leads to `to`: who resumes from one before it gets all of them again, which does no harm. */
function split<V>(changes: readonly Change<V>[], from: number, to: number, merged: number): readonly Batch<V>[] {
  const batches: Batch<V>[] = []
  for (let start = 0; start < changes.length; start += maxChangesPerBatch) {
    const end = start + maxChangesPerBatch
    const isLast = end >= changes.length
    batches.push({
      revision: isLast ? to : from,
      changes: changes.slice(start, end),
      synced: false,
      reset: false,
      merged: isLast ? merged : 0,
    })
  }
  return batches
}
