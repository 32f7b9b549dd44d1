/** Those who want to be told. One that throws harms no other. */
export class Listeners<E> {
  readonly #listeners = new Set<(event: E) => void>()
  readonly #onFailure: (error: unknown) => void

  constructor(onFailure: (error: unknown) => void) {
    this.#onFailure = onFailure
  }

  add(listener: (event: E) => void): Disposable {
    this.#listeners.add(listener)
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) }
  }

  tell(event: E): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener(event)
      } catch (error) {
        this.#onFailure(error)
      }
    }
  }
}
