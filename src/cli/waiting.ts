/** Who waits for longer is told what for. */
const quietMs = 1_000

/** Says on standard error, where that is a terminal, what is waited for, once that takes a second; disposing wipes it out. */
export function tellOfWaiting(what: string): Disposable {
  let told = false
  const timer = setTimeout(() => {
    told = process.stderr.isTTY
    if (told) process.stderr.write(`waiting for ${what} ...`)
  }, quietMs)
  return {
    [Symbol.dispose]: () => {
      clearTimeout(timer)
      if (told) process.stderr.write(wiped)
      told = false
    },
  }
}

/** What `answer` resolves to; meanwhile as {@link tellOfWaiting}. */
export async function waitedFor<T>(what: string, answer: Promise<T>): Promise<T> {
  using _told = tellOfWaiting(what)
  return await answer
}

/**
 * Says each second on standard error, where that is a terminal, how far something without an end has come; disposing wipes
 * it out.
 */
export function tellProgress(soFar: () => string): Disposable {
  if (!process.stderr.isTTY) return { [Symbol.dispose]: () => {} }
  const timer = setInterval(() => process.stderr.write(`${wiped}${soFar()}`), quietMs)
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer)
      process.stderr.write(wiped)
    },
  }
}

/** To the start of the line, and nothing after it (ECMA-48 §8.3.41). */
const wiped = '\r\x1b[K'
