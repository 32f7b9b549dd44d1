import { abortReason } from './abort.js'

/** What one reader is given at once. Without items and losses it only says that nothing has come. */
export interface Portion<T> {
  readonly items: readonly T[]
  /** Items that this reader has missed since its last portion, because it read slowly. */
  readonly lost: number
}

export interface ReadOptions<T> {
  readonly includes: (item: T) => boolean
  /** Items kept for this reader; what comes when there are so many is lost to it. */
  readonly maxQueued: number
  /** Items in one portion. */
  readonly maxPortion: number
  /** How long the reader hears nothing before it is told that there is nothing. */
  readonly heartbeatMs: number
  readonly signal: AbortSignal
}

interface Reader<T> {
  readonly includes: (item: T) => boolean
  readonly maxQueued: number
  queue: T[]
  lost: number
  wake: () => void
}

/** Items that matter only as they come, for any number of readers. Who reads slowly loses some, and learns how many. */
export class LossyFeed<T> {
  readonly #readers = new Set<Reader<T>>()

  /** How many read. Without any, nothing that is published is kept. */
  get readerCount(): number {
    return this.#readers.size
  }

  /** Never waits for a reader. */
  publish(items: readonly T[]): void {
    for (const reader of this.#readers) {
      for (const item of items) {
        if (!reader.includes(item)) continue
        if (reader.queue.length < reader.maxQueued) reader.queue.push(item)
        else reader.lost++
      }
      if (reader.queue.length > 0) reader.wake()
    }
  }

  /**
   * An empty portion at once, by which the reader knows that it misses nothing from here on, and then what is published.
   * Goes on until the signal, with whose reason it rejects.
   */
  async *read({
    includes,
    maxQueued,
    maxPortion,
    heartbeatMs,
    signal,
  }: ReadOptions<T>): AsyncGenerator<Portion<T>, never> {
    const reader: Reader<T> = { includes, maxQueued, queue: [], lost: 0, wake: () => {} }
    this.#readers.add(reader)
    try {
      yield { items: [], lost: 0 }
      for (;;) {
        if (reader.queue.length === 0) await awoken(reader, heartbeatMs, signal)
        const { lost } = reader
        reader.lost = 0
        yield { items: reader.queue.splice(0, maxPortion), lost }
      }
    } finally {
      this.#readers.delete(reader)
    }
  }
}

/** Until there is something in the queue, for `forMs` at most. */
function awoken<T>(reader: Reader<T>, forMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(abortReason(signal))
    const leave = (settle: () => void) => () => {
      clearTimeout(timer)
      reader.wake = () => {}
      signal.removeEventListener('abort', onAbort)
      settle()
    }
    const onAbort = leave(() => reject(abortReason(signal)))
    const timer = setTimeout(leave(resolve), forMs)
    reader.wake = leave(resolve)
    signal.addEventListener('abort', onAbort, { once: true })
  })
}
