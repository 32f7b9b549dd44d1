/** Those who want to be told. One that throws harms no other. */
export class Listeners<E extends object> {
  readonly #listeners = new Set<(event: E) => void>()
  readonly #untold: E[] = []
  readonly #onFailure: (error: unknown) => void

  constructor(onFailure: (error: unknown) => void) {
    this.#onFailure = onFailure
  }

  add(listener: (event: E) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  /** What a listener brings about is told when all have been told of `event`. */
  tell(event: E): void {
    this.#untold.push(event)
    if (this.#untold.length > 1) return
    for (let next = this.#untold[0]; next !== undefined; next = this.#untold[0]) {
      this.#tellAll(next)
      this.#untold.shift()
    }
  }

  #tellAll(event: E): void {
    for (const listener of [...this.#listeners]) {
      // Another may have sent it away just now.
      if (!this.#listeners.has(listener)) continue
      try {
        listener(event)
      } catch (error) {
        this.#onFailure(error)
      }
    }
  }
}

/** `listener`, except that what it throws becomes a warning of the process: for those who are told of failures themselves. */
export function harmless<E>(listener: (event: E) => void): (event: E) => void {
  return event => {
    try {
      listener(event)
    } catch (error) {
      process.emitWarning(error instanceof Error ? error : String(error))
    }
  }
}
