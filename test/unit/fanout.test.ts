import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cancelled } from '../../src/lib/abort.js'
import { type Batch, ChangeLog, maxChangesPerBatch, type View } from '../../src/lib/fanout.js'
import { Ticker } from '../../src/lib/ticker.js'
import { within } from '../support/until.js'

const all: View<number> = { id: 'all', includes: () => true }
const even: View<number> = { id: 'even', includes: value => value % 2 === 0 }

function newLog(options: { readonly maxChanges?: number; readonly heartbeatMs?: number } = {}): ChangeLog<number> {
  return new ChangeLog({ epoch: 'e1', maxChanges: 1_000, heartbeatMs: 60_000, ...options })
}

/** Sets each key in a revision of its own; undefined removes. */
function set(log: ChangeLog<number>, ...states: readonly (readonly [string, number | undefined])[]): void {
  for (const [key, after] of states) log.publish([{ key, before: log.get(key), after }])
}

function watch(log: ChangeLog<number>, view = all, after?: { readonly epoch: string; readonly revision: number }) {
  const abort = new AbortController()
  const batches = log.watch({ view, after, signal: abort.signal })
  return {
    next: async (): Promise<Batch<number>> => (await within('a batch', 2_000, batches.next())).value,
    end: () => abort.abort(cancelled()),
  }
}

/** Short: `+a=1 ~a:1=2 -a=2`. */
function told({ changes }: Batch<number>): string {
  return changes
    .map(({ key, before, after }) => {
      if (before === undefined) return `+${key}=${after}`
      return after === undefined ? `-${key}=${before}` : `~${key}:${before}=${after}`
    })
    .join(' ')
}

test('a subscriber gets what is there, ordered by key, then synced, then what changes', async () => {
  const log = newLog()
  set(log, ['b', 2], ['a', 1])
  const subscriber = watch(log)
  const snapshot = await subscriber.next()
  assert.equal(told(snapshot), '+a=1 +b=2')
  assert.equal(snapshot.revision, 0)
  assert.deepEqual(await subscriber.next(), { revision: 3, changes: [], synced: true, reset: false, merged: 0 })
  set(log, ['a', 3])
  const change = await subscriber.next()
  assert.equal(told(change), '~a:1=3')
  assert.equal(change.revision, 4)
  set(log, ['b', undefined])
  assert.equal(told(await subscriber.next()), '-b=2')
  subscriber.end()
})

test('a change that is no news to a view is not told, nor are several that come to nothing', async () => {
  const log = newLog()
  const tens: View<number> = {
    ...all,
    id: 'tens',
    tells: (before, after) => before - (before % 10) !== after - (after % 10),
  }
  set(log, ['a', 1])
  const subscriber = watch(log, tens)
  assert.equal(told(await subscriber.next()), '+a=1')
  assert.equal((await subscriber.next()).synced, true)
  set(log, ['a', 2], ['b', 1])
  assert.equal(told(await subscriber.next()), '+b=1')
  set(log, ['a', 12], ['a', 3], ['b', 11])
  assert.equal(told(await subscriber.next()), '~b:1=11')
  subscriber.end()
})

test('a value that leaves a view is removed for it, and one that enters is added', async () => {
  const log = newLog()
  set(log, ['a', 1], ['b', 2])
  const subscriber = watch(log, even)
  assert.equal(told(await subscriber.next()), '+b=2')
  assert.equal((await subscriber.next()).synced, true)
  set(log, ['a', 5])
  set(log, ['a', 4])
  assert.equal(told(await subscriber.next()), '+a=4')
  set(log, ['a', 7])
  assert.equal(told(await subscriber.next()), '-a=4')
  subscriber.end()
})

test('a slow reader gets each key once, from where it stood, and is told how many were merged', async () => {
  const log = newLog()
  set(log, ['a', 1], ['b', 2])
  const subscriber = watch(log)
  await subscriber.next()
  await subscriber.next()
  set(log, ['a', 10], ['c', 1], ['a', 11], ['c', undefined], ['b', undefined], ['d', 4])
  const batch = await subscriber.next()
  assert.equal(told(batch), '~a:1=11 -b=2 +d=4')
  assert.equal(batch.merged, 3)
  assert.equal(batch.revision, log.revision)
  subscriber.end()
})

test('who resumes gets what it has missed and no snapshot', async () => {
  const log = newLog()
  set(log, ['a', 1], ['b', 2])
  const revision = log.revision
  set(log, ['a', undefined], ['c', 3])
  const subscriber = watch(log, all, { epoch: 'e1', revision })
  const missed = await subscriber.next()
  assert.equal(told(missed), '-a=1 +c=3')
  assert.equal(missed.reset, false)
  assert.deepEqual(await subscriber.next(), { revision: 5, changes: [], synced: true, reset: false, merged: 0 })
  subscriber.end()
})

for (const [why, after] of [
  ['of another epoch', { epoch: 'e0', revision: 2 }],
  ['that is yet to come', { epoch: 'e1', revision: 99 }],
  ['within a snapshot', { epoch: 'e1', revision: 0 }],
  ['that is no longer kept', { epoch: 'e1', revision: 2 }],
] as const) {
  test(`who resumes from a revision ${why} is reset and gets a snapshot`, async () => {
    const log = newLog({ maxChanges: 4 })
    for (let i = 0; i < 20; i++) set(log, ['a', i])
    const subscriber = watch(log, all, after)
    assert.deepEqual(await subscriber.next(), { revision: 0, changes: [], synced: false, reset: true, merged: 0 })
    assert.equal(told(await subscriber.next()), '+a=19')
    assert.equal((await subscriber.next()).synced, true)
    subscriber.end()
  })
}

test('a subscriber that never reads costs no more than what is kept, and others are served', async () => {
  const log = newLog({ maxChanges: 100 })
  set(log, ['a', 0])
  const idle = watch(log)
  const reader = watch(log)
  await idle.next()
  await reader.next()
  await reader.next()
  for (let i = 1; i <= 2_000; i++) {
    set(log, [`k${i % 50}`, i])
    assert.equal(told(await reader.next()).endsWith(`=${i}`), true)
  }
  assert.ok(log.size <= 125, `${log.size} changes are kept`)
  assert.equal((await idle.next()).synced, true)
  assert.equal((await idle.next()).reset, true)
  assert.equal((await idle.next()).changes.length, 51)
  assert.equal((await idle.next()).revision, log.revision)
  idle.end()
  reader.end()
})

test('much at once comes in batches, and only the last can be resumed from', async () => {
  const log = newLog({ maxChanges: 10_000 })
  const subscriber = watch(log)
  assert.equal((await subscriber.next()).synced, true)
  const from = log.revision
  log.publish(Array.from({ length: 1_200 }, (_, i) => ({ key: `k${i}`, before: undefined, after: i })))
  const batches = [await subscriber.next(), await subscriber.next(), await subscriber.next()]
  assert.deepEqual(
    batches.map(({ changes }) => changes.length),
    [maxChangesPerBatch, maxChangesPerBatch, 200],
  )
  assert.deepEqual(
    batches.map(({ revision }) => revision),
    [from, from, from + 1],
  )
  subscriber.end()
})

test('subscribers at one place with one view share what they are told', async () => {
  const log = newLog()
  set(log, ['a', 1])
  const [one, two] = [watch(log), watch(log)]
  assert.equal(await one.next(), await two.next())
  await one.next()
  await two.next()
  set(log, ['a', 2])
  assert.equal(await one.next(), await two.next())
  one.end()
  two.end()
})

test('a quiet subscriber gets a heartbeat with the revision it stands at', async () => {
  const log = newLog({ heartbeatMs: 10 })
  const subscriber = watch(log, even)
  await subscriber.next()
  set(log, ['a', 1])
  const beat = await subscriber.next()
  assert.deepEqual(beat, { revision: 2, changes: [], synced: false, reset: false, merged: 0 })
  subscriber.end()
})

test('changes that a subscriber does not see do not put off its heartbeat', async () => {
  const log = newLog({ heartbeatMs: 50 })
  const subscriber = watch(log, even)
  await subscriber.next()
  // In every turn of the loop: more often than a timer of a millisecond comes due.
  let busy = setImmediate(function again() {
    set(log, ['a', 1 + 2 * log.revision])
    busy = setImmediate(again)
  })
  const beat = await subscriber.next().finally(() => clearImmediate(busy))
  assert.deepEqual(beat.changes, [])
  subscriber.end()
})

test('a subscriber that ends while it waits ends at once, with the reason', async () => {
  const log = newLog()
  const subscriber = watch(log)
  await subscriber.next()
  const waiting = subscriber.next()
  subscriber.end()
  await assert.rejects(waiting, { name: 'Aborted', why: 'cancelled' })
})

test('who reads ticks slowly gets the latest, and how many it missed', async () => {
  const ticker = new Ticker<number>()
  const abort = new AbortController()
  const ticks = ticker.watch(abort.signal)
  const first = ticks.next()
  ticker.publish(1)
  assert.deepEqual((await first).value, { value: 1, skipped: 0 })
  for (const value of [2, 3, 4]) ticker.publish(value)
  assert.deepEqual((await ticks.next()).value, { value: 4, skipped: 2 })
  const last = ticks.next()
  abort.abort(cancelled())
  await assert.rejects(last, { name: 'Aborted' })
})

test('a ticker is read from the first wait of a reader until its end', async () => {
  const ticker = new Ticker<number>()
  const abort = new AbortController()
  const [one, other] = [ticker.watch(abort.signal), ticker.watch(abort.signal)]
  assert.equal(ticker.isRead, false)
  const ticks = [one.next(), other.next()]
  ticker.publish(1)
  await Promise.all(ticks)
  await assert.rejects(one.throw(new Error('it is not wanted any more')))
  assert.equal(ticker.isRead, true)
  const last = other.next()
  abort.abort(cancelled())
  await assert.rejects(last, { name: 'Aborted' })
  assert.equal(ticker.isRead, false)
})
