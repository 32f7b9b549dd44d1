import { exhausted } from './problem.js'

/** How many taps and bridges are captured at the same time, to files and by streams: each takes memory of the kernel. */
export class CapturePlaces {
  readonly #most: number
  #taken = 0

  constructor(most: number) {
    this.#most = most
  }

  /** Takes places for so many until the result is disposed of. Throws `exhausted`. */
  take(count: number): Disposable {
    if (this.#taken + count > this.#most) {
      throw exhausted(
        `${this.#taken} of the ${this.#most} taps and bridges that --max-captures allows are being captured`,
      )
    }
    this.#taken += count
    let left = count
    return {
      [Symbol.dispose]: () => {
        this.#taken -= left
        left = 0
      },
    }
  }
}
