import { whenAborted } from '../lib/abort.js'

/** Somebody who waits for a state to come. */
interface Waiter {
  /** Tries once more; settles when it can. */
  readonly attempt: () => boolean
  readonly reject: (reason: unknown) => void
}

/** Those who wait for something to become true, and are asked again whenever it might have. */
export class Waiters {
  readonly #waiting = new Set<Waiter>()
  #closed: Error | undefined

  /**
   * The first answer of `probe` that is not undefined. Rejects with the signal's reason, with what `probe` throws, or
   * once closed.
   */
  waitFor<R>(probe: () => R | undefined, signal: AbortSignal): Promise<R> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const attempt = (): boolean => {
        try {
          const answer = probe()
          if (answer === undefined) return false
          resolve(answer)
        } catch (error) {
          reject(error)
        }
        leave()
        return true
      }
      const waiter: Waiter = { attempt, reject }
      let unlisten = () => {}
      const leave = () => {
        this.#waiting.delete(waiter)
        unlisten()
      }
      if (attempt()) return
      if (this.#closed !== undefined) return reject(this.#closed)
      this.#waiting.add(waiter)
      unlisten = whenAborted(signal, () => {
        leave()
        reject(signal.reason)
      })
    })
  }

  askAll(): void {
    for (const waiter of [...this.#waiting]) waiter.attempt()
  }

  /** Ends every wait, and those that are yet to begin. */
  close(error: Error): void {
    this.#closed = error
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const { reject } of waiting) reject(error)
  }
}
