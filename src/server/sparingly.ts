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
export function sparingly<T>(
  tell: (latest: T, times: number) => void,
  keyOf: (one: T) => string = () => '',
): (one: T) => void {
  const told = new Map<string, Told<T>>()
  const silence = (key: string, about: Told<T>) => {
    const goOn = () => {
      if (about.times === 0) {
        told.delete(key)
        return
      }
      tell(about.latest, about.times)
      about.times = 0
      silence(key, about)
    }
    setTimeout(goOn, silenceMs).unref()
  }
  return one => {
    const key = keyOf(one)
    const about = told.get(key)
    if (about !== undefined) {
      about.times++
      about.latest = one
      return
    }
    tell(one, 1)
    const fresh = { times: 0, latest: one }
    told.set(key, fresh)
    silence(key, fresh)
  }
}
