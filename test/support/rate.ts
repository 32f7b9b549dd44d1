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
/** Of fewer, one that is out of the ordinary would be the median. */
const leastFullParts = 3

/**
 * Both shares of the rate over the last `windowMs`; undefined while the samples do not reach so far back. A stall can bring
 * a link that is too fast down to the rate, on the average of a window and not at most of its samples.
 */
export function rateOver(
  samples: readonly RateSample[],
  bitsPerSecond: number,
  windowMs: number,
): { readonly offered: number; readonly passed: number; readonly isHeld: boolean } | undefined {
  const now = samples.at(-1)
  const first = now === undefined ? -1 : samples.findLastIndex(({ atMs }) => atMs <= now.atMs - windowMs)
  const from = samples[first]
  if (now === undefined || from === undefined) return undefined
  const whole = between(from, now, bitsPerSecond)
  const parts = samples.slice(first + 1).map((to, i) => between(samples[first + i] ?? from, to, bitsPerSecond))
  const full = parts.filter(({ offered }) => offered >= leastOffered).map(({ passed }) => passed)
  const isSteady = full.length >= leastFullParts && median(full) <= 1 + tolerance
  return { ...whole, isHeld: whole.offered >= leastOffered && Math.abs(whole.passed - 1) <= tolerance && isSteady }
}

function between(from: RateSample, to: RateSample, bitsPerSecond: number) {
  const bytes = ((bitsPerSecond / 8) * (to.atMs - from.atMs)) / 1e3
  const offered = (to.offeredBytes - from.offeredBytes) / bytes
  return { offered, passed: (to.passedBytes - from.passedBytes) / bytes }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

const sampleMs = 200
const maxReadMs = 10

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
        const sample = { atMs: performance.now(), offeredBytes: offered(), passedBytes: passedBytes() }
        // This thread may have been away between the clock and a counter.
        if (performance.now() > sample.atMs + maxReadMs) continue
        samples.push(sample)
        const rate = rateOver(samples, bitsPerSecond, windowMs)
        if (rate?.isHeld) return
        if (rate !== undefined) seen.push(`${rate.passed.toFixed(3)}/${rate.offered.toFixed(2)}`)
      }
      throw new Error(`${name} let pass of ${bitsPerSecond} bit/s, and was offered: ${seen.join(' ')}`)
    }),
  )
}
