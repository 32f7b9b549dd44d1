import { abortReason } from './abort.js'

/** A value with how many before it the reader has missed since it last took one. */
export interface Tick<T> {
  readonly value: T
  readonly skipped: number
}

/** A value that is replaced again and again; who reads slowly misses some. Keeps the latest only. */
export class Ticker<T> {
  #latest: { readonly value: T } | undefined
  #count = 0
  readonly #waiting = new Set<() => void>()
  #readers = 0

  /** Whether anybody would see what is published now. */
  get isRead(): boolean {
    return this.#readers > 0
  }

  publish(value: T): void {
    this.#latest = { value }
    this.#count++
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const wake of waiting) wake()
  }

  /** The values published from now on. Goes on until the signal, with whose reason it rejects. */
  async *watch(signal: AbortSignal): AsyncGenerator<Tick<T>, never> {
    let seen = this.#count
    this.#readers++
    try {
      for (;;) {
        await this.#beyond(seen, signal)
        const skipped = this.#count - seen - 1
        seen = this.#count
        if (this.#latest !== undefined) yield { value: this.#latest.value, skipped }
      }
    } finally {
      this.#readers--
      if (this.#readers === 0) this.#latest = undefined
    }
  }

  #beyond(seen: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(abortReason(signal))
      if (this.#count > seen) return resolve()
      const wake = () => {
        signal.removeEventListener('abort', onAbort)
        resolve()
      }
      const onAbort = () => {
        this.#waiting.delete(wake)
        reject(abortReason(signal))
      }
      this.#waiting.add(wake)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }
}
