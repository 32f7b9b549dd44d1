import { setTimeout as delay } from 'node:timers/promises'
import { findLink } from './links.js'
import type { Namespace } from './namespace.js'

/** Bytes so far, Ethernet headers included. */
export type ByteCounter = () => number

/** What a link of a container has received. */
export function received(at: Namespace, link = 'veth0'): ByteCounter {
  return () => Number(at.run(() => findLink(link))?.statistics.rxBytes ?? 0n)
}

/** What a link of a container has sent. */
export function sent(at: Namespace, link = 'veth0'): ByteCounter {
  return () => Number(at.run(() => findLink(link))?.statistics.txBytes ?? 0n)
}

/** Two counters at a moment. */
export interface RateSample {
  readonly atMs: number
  /** What a link without a limit would have let through by now. */
  readonly offeredBytes: number
  readonly passedBytes: number
}

/** So much more than the rate is offered, that what passes at the rate has been limited to it. */
const leastOffered = 1.3
const tolerance = 0.05

/** Both shares of the rate over the last `windowMs`; undefined while the samples do not reach so far back. */
export function rateOver(
  samples: readonly RateSample[],
  bitsPerSecond: number,
  windowMs: number,
): { readonly offered: number; readonly passed: number; readonly isHeld: boolean } | undefined {
  const now = samples.at(-1)
  const from = now && samples.findLast(({ atMs }) => atMs <= now.atMs - windowMs)
  if (now === undefined || from === undefined) return undefined
  const bytes = ((bitsPerSecond / 8) * (now.atMs - from.atMs)) / 1e3
  const offered = (now.offeredBytes - from.offeredBytes) / bytes
  const passed = (now.passedBytes - from.passedBytes) / bytes
  return { offered, passed, isHeld: offered >= leastOffered && Math.abs(passed - 1) <= tolerance }
}

const sampleMs = 200

/**
 * Waits until through each of the links this rate ± 5% has passed for `windowMs` on end, while `offered` counted far more:
 * what one without a limit got of the same frames, or what the sender sent. A machine that has other things to do does not
 * fill the links all the time: any such window will do, and no link without a limit has one.
 */
export async function holdRate(
  passed: Readonly<Record<string, ByteCounter>>,
  offered: ByteCounter,
  bitsPerSecond: number,
  windowMs: number,
  deadlineMs = 8 * windowMs,
): Promise<void> {
  await Promise.all(
    Object.entries(passed).map(async ([name, passedBytes]) => {
      const seen: string[] = []
      const samples: RateSample[] = []
      for (const deadline = performance.now() + deadlineMs; performance.now() < deadline; await delay(sampleMs)) {
        samples.push({ atMs: performance.now(), offeredBytes: offered(), passedBytes: passedBytes() })
        const rate = rateOver(samples, bitsPerSecond, windowMs)
        if (rate?.isHeld) return
        if (rate !== undefined) seen.push(`${rate.passed.toFixed(3)}/${rate.offered.toFixed(2)}`)
      }
      throw new Error(`${name} let pass of ${bitsPerSecond} bit/s, and was offered: ${seen.join(' ')}`)
    }),
  )
}
