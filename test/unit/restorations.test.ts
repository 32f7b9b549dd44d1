import assert from 'node:assert/strict'
import { test } from 'node:test'
import { attempted, failed, hopeful, noRestorations, notBeforeMs, succeeded } from '../../src/bridge/restorations.js'

test('the first restoration is at once, the next a second later', () => {
  assert(notBeforeMs(noRestorations) <= 0)
  const once = succeeded(attempted(noRestorations, 5_000), 5_010)
  assert.deepEqual([once.times, notBeforeMs(once)], [1, 6_010])
})

test('each failure doubles the time to the next attempt, up to a minute, and a success ends that', () => {
  let now = 0
  let state = noRestorations
  const pauses: number[] = []
  for (let i = 0; i < 8; i++) {
    state = failed(attempted(state, now), now)
    pauses.push(notBeforeMs(state) - now)
    now = notBeforeMs(state)
  }
  assert.deepEqual(pauses, [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000])
  state = succeeded(attempted(state, now), now)
  assert.deepEqual([state.times, notBeforeMs(state) - now], [1, 1_000])
})

test('after news there is an attempt a second after the last, however many have failed', () => {
  let state = succeeded(attempted(noRestorations, 0), 0)
  for (let i = 1; i <= 5; i++) state = failed(attempted(state, i * 60_000), i * 60_000)
  assert.deepEqual([hopeful(state).times, notBeforeMs(hopeful(state))], [1, 301_000])
})
