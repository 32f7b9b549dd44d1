import { setTimeout as delay } from 'node:timers/promises'

/** What is waited for is given up after so long. In user-mode Linux everything takes longer. */
export const patienceMs = process.env['OVS_BRIDGED_LANE'] === 'kernel' ? 60_000 : 20_000

/**
 * Waits until `condition` gives something other than undefined or false, and returns it; for what tells nobody that
 * it happened. The error names `what` was waited for and the condition's last error, if it threw.
 */
export async function until<T>(
  what: string,
  condition: () => T | undefined | false | Promise<T | undefined | false>,
  options: { readonly deadlineMs?: number; readonly everyMs?: number } = {},
): Promise<T> {
  const { deadlineMs = patienceMs, everyMs = 5 } = options
  const deadline = performance.now() + deadlineMs
  for (;;) {
    let failure: unknown
    try {
      const found = await condition()
      if (found !== undefined && found !== false) return found
    } catch (error) {
      failure = error
    }
    if (performance.now() >= deadline) {
      throw new Error(`not within ${deadlineMs} ms: ${what}`, failure === undefined ? {} : { cause: failure })
    }
    await delay(everyMs)
  }
}

/** `promise`, or an error that names `what` did not come within `deadlineMs`. */
export async function within<T>(what: string, deadlineMs: number, promise: Promise<T>): Promise<T> {
  const timer = new AbortController()
  const overdue = delay(deadlineMs, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`not within ${deadlineMs} ms: ${what}`)
  })
  try {
    return await Promise.race([promise, overdue])
  } finally {
    timer.abort()
    overdue.catch(() => {})
  }
}

/** Does something again and again until `work` is done: a frame that is sent but once may be lost on a busy machine. */
export async function repeating<T>(action: () => void, work: Promise<T>): Promise<T> {
  action()
  const timer = setInterval(action, 200)
  try {
    return await work
  } finally {
    clearInterval(timer)
  }
}

/** Nothing takes so long: what does not end at all shows as a test that failed, not as one that hangs. */
export function soon(): AbortSignal {
  return AbortSignal.timeout(50_000)
}
