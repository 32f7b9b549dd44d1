import { raceAbort } from './abort.js'

/** Work that has to do with one name, one piece after the other; what has to do with different names goes on together. */
export class OneAtATime {
  /** The end of the last piece of work of each name. */
  readonly #ends = new Map<string, Promise<unknown>>()

  /** Runs `work` when no other work of this name is under way, unless the signal comes first. */
  async run<T>(name: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const former = this.#ends.get(name) ?? Promise.resolve()
    const turn = raceAbort(former, signal).then(work)
    // Who comes next waits for both: this one may have given up waiting for its turn.
    const end = Promise.allSettled([former, turn])
    this.#ends.set(name, end)
    void end.then(() => {
      if (this.#ends.get(name) === end) this.#ends.delete(name)
    })
    return await turn
  }
}
