interface Told<T> {
  /** What has come since it was last told of. */
  times: number
  latest: T
}

const silenceMs = 1_000

/**
 * Tells of what happens again and again once a second at most, and how often it did since: who floods the service must not flood
 * its log. Things of another key are told for themselves.
 */
export class Sparingly<T> {
  readonly #say: (latest: T, times: number) => void
  readonly #keyOf: (one: T) => string
  readonly #told = new Map<string, Told<T>>()

  constructor(say: (latest: T, times: number) => void, keyOf: (one: T) => string) {
    this.#say = say
    this.#keyOf = keyOf
  }

  tell(one: T): void {
    const key = this.#keyOf(one)
    const about = this.#told.get(key)
    if (about !== undefined) {
      about.times++
      about.latest = one
      return
    }
    this.#say(one, 1)
    const fresh = { times: 0, latest: one }
    this.#told.set(key, fresh)
    this.#silence(key, fresh)
  }

  /** Tells of all that waits for its second to be over. */
  flush(): void {
    for (const about of this.#told.values()) this.#sayRest(about)
  }

  #silence(key: string, about: Told<T>): void {
    const goOn = () => {
      if (about.times === 0) {
        this.#told.delete(key)
        return
      }
      this.#sayRest(about)
      this.#silence(key, about)
    }
    setTimeout(goOn, silenceMs).unref()
  }

  #sayRest(about: Told<T>): void {
    if (about.times > 0) this.#say(about.latest, about.times)
    about.times = 0
  }
}
