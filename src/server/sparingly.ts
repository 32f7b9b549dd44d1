/**
 * Tells of what happens again and again once a second at most, and how often it did since: who floods the service must not flood
 * its log.
 */
export function sparingly<T>(tell: (latest: T, times: number) => void): (one: T) => void {
  let times = 0
  let silentUntilMs = 0
  return one => {
    times++
    if (performance.now() < silentUntilMs) return
    tell(one, times)
    times = 0
    silentUntilMs = performance.now() + 1_000
  }
}
