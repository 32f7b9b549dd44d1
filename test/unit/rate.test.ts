import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type RateSample, rateOver } from '../support/rate.js'

const bitsPerSecond = 8e6
const windowMs = 10_000

/** A sender and a link, sampled every 200 ms; the rates are shares of `bitsPerSecond` at a second. */
function sampled(seconds: number, offered: (s: number) => number, passed: (s: number) => number): RateSample[] {
  const samples: RateSample[] = [{ atMs: 0, offeredBytes: 0, passedBytes: 0 }]
  for (let i = 1; i <= seconds * 5; i++) {
    const { offeredBytes = 0, passedBytes = 0 } = samples.at(-1) ?? {}
    samples.push({
      atMs: i * 200,
      offeredBytes: offeredBytes + offered(i / 5) * 2e5,
      passedBytes: passedBytes + passed(i / 5) * 2e5,
    })
  }
  return samples
}

/** Whether the rate was held in any window. */
function everHeld(samples: readonly RateSample[]): boolean {
  return samples.some((_, i) => rateOver(samples.slice(0, i + 1), bitsPerSecond, windowMs)?.isHeld)
}

/** From nothing to twice the rate. */
const climbing = (s: number) => s / 20
const twice = () => 2

test('a link that lets all pass holds no rate, also of a sender that climbs through it', () => {
  assert(!everHeld(sampled(40, climbing, climbing)))
  assert(!everHeld(sampled(40, twice, twice)))
  assert(
    !everHeld(
      sampled(
        40,
        () => 1,
        () => 1,
      ),
    ),
  )
})

test('a link that is limited holds its rate to 5% once it is full', () => {
  assert(everHeld(sampled(40, climbing, s => Math.min(climbing(s), 1))))
  assert(everHeld(sampled(12, twice, () => 0.96)))
  assert(!everHeld(sampled(40, twice, () => 0.94)))
  assert(!everHeld(sampled(40, twice, () => 1.06)))
})

/** Nothing passes in 200 ms of every two seconds. */
const stalling = (rate: number) => (s: number) => (Math.round(s * 5) % 10 === 5 ? 0 : rate)

test('a link that is too fast is told from one that holds its rate, also when a stall brings it down to the rate', () => {
  const dipping = (s: number) => (s === 5 ? 0 : 1.02)
  assert(everHeld(sampled(40, twice, dipping)))
  const fast = sampled(40, twice, stalling(1.1))
  assert.equal(rateOver(fast, bitsPerSecond, windowMs)?.passed.toFixed(2), '0.99')
  assert(!everHeld(fast))
  assert(!everHeld(sampled(40, stalling(2), stalling(1.1))))
})

test('a link that holds its rate is not taken for a fast one after a stall', () => {
  // What waited meanwhile comes at once.
  const catchingUp = (s: number) => [0, 2][(Math.round(s * 5) % 10) - 5] ?? 1
  assert(everHeld(sampled(12, twice, catchingUp)))
  assert(everHeld(sampled(12, stalling(2), s => (s % 10 === 5 ? 0 : 1))))
})

test('a window is as long as it is asked to be', () => {
  assert.equal(
    rateOver(
      sampled(9.8, twice, () => 1),
      bitsPerSecond,
      windowMs,
    ),
    undefined,
  )
  assert(!everHeld(sampled(11, twice, s => (s <= 5 ? 0.5 : 1))))
})
