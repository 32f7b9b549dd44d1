/** What has been opened, to be closed in reverse. Stands in for AsyncDisposableStack, which Node.js 20 lacks. */
export class Disposables implements AsyncDisposable {
  #close: (() => unknown)[] = []

  use<T extends Disposable | AsyncDisposable>(resource: T): T {
    this.#close.push(() =>
      Symbol.asyncDispose in resource ? resource[Symbol.asyncDispose]() : resource[Symbol.dispose](),
    )
    return resource
  }

  defer(close: () => unknown): void {
    this.#close.push(close)
  }

  /** Closes everything, also what follows one that fails; then throws the first failure. */
  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = []
    for (const close of this.#close.splice(0).reverse()) {
      try {
        await close()
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
  }
}
