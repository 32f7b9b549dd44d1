import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  dueMs,
  heard,
  initialReconnect,
  loading,
  lost,
  type Reconnect,
  step,
  useful,
} from '../../src/ovsdb/reconnect.js'

const patience = {
  minBackoffMs: 1000,
  maxBackoffMs: 8000,
  connectTimeoutMs: 3000,
  probeIntervalMs: 5000,
  loadTimeoutMs: 60_000,
}

test('the first attempt is due at once', () => {
  assert.equal(step(initialReconnect(100, patience), 100, patience).action, 'connect')
})

test('an attempt without an answer is given up after its timeout', () => {
  const { next } = step(initialReconnect(0, patience), 0, patience)
  assert.equal(step(next, 2999, patience).action, undefined)
  assert.equal(step(next, 3000, patience).action, 'disconnect')
})

test('the pause doubles with each attempt that fails, up to the longest', () => {
  let state: Reconnect = initialReconnect(0, patience)
  const pauses = [1, 2, 3, 4, 5].map(() => {
    state = lost(state, 0, patience, 0)
    return dueMs(state, patience)
  })
  assert.deepEqual(pauses, [1000, 2000, 4000, 8000, 8000])
})

test('jitter shortens a pause by at most a quarter', () => {
  assert.equal(dueMs(lost(initialReconnect(0, patience), 50, patience, 1), patience), 800)
})

test('a connection that was useful starts again from the shortest pause', () => {
  const failed = lost(lost(initialReconnect(0, patience), 0, patience, 0), 0, patience, 0)
  assert.equal(dueMs(lost(useful(heard(failed, 10, patience), patience), 10, patience, 0), patience), 1010)
})

test('a connection that came to nothing does not shorten the pause', () => {
  const failed = lost(lost(initialReconnect(0, patience), 0, patience, 0), 0, patience, 0)
  assert.equal(dueMs(lost(heard(failed, 10, patience), 10, patience, 0), patience), 4010)
})

test('silence is answered by one probe, and more silence by giving up', () => {
  const active = heard(initialReconnect(0, patience), 0, patience)
  assert.equal(step(active, 4999, patience).action, undefined)
  const probed = step(active, 5000, patience)
  assert.equal(probed.action, 'probe')
  assert.equal(step(probed.next, 9999, patience).action, undefined)
  assert.equal(step(probed.next, 10_000, patience).action, 'disconnect')
})

test('an answer to the probe starts the silence anew', () => {
  const { next } = step(heard(initialReconnect(0, patience), 0, patience), 5000, patience)
  assert.equal(dueMs(heard(next, 6000, patience), patience), 11_000)
})

/** Heard every second, as by a server that answers each probe. */
function heardUntil(state: Reconnect, fromMs: number, toMs: number, isStillPartial = false): Reconnect {
  let next = state
  for (let nowMs = fromMs; nowMs < toMs; nowMs += 1000) {
    assert.equal(step(next, nowMs, patience).action, undefined)
    next = heard(next, nowMs, patience, isStillPartial)
  }
  return next
}

test('a connection that is heard and does not become useful in time is given up', () => {
  const chatty = heardUntil(heard(initialReconnect(0, patience), 0, patience), 1000, 60_000)
  assert.equal(step(chatty, 60_000, patience).action, 'disconnect')
})

test('a useful connection lives for as long as it is heard, until it has to load again', () => {
  const used = useful(heard(initialReconnect(0, patience), 0, patience), patience)
  const old = heardUntil(used, 1000, 1_000_000)
  const again = heardUntil(loading(old, 1_000_000, patience), 1_000_000, 1_060_000)
  assert.equal(step(again, 1_060_000, patience).action, 'disconnect')
  assert.equal(step(useful(again, patience), 1_060_000, patience).action, undefined)
})

test('a message that does not become whole in time is given up, one that does is not', () => {
  const used = useful(heard(initialReconnect(0, patience), 0, patience), patience)
  const partial = heardUntil(heard(used, 1000, patience, true), 2000, 61_000, true)
  assert.equal(step(partial, 61_000, patience).action, 'disconnect')
  assert.equal(step(heard(partial, 60_999, patience), 61_000, patience).action, undefined)
})
