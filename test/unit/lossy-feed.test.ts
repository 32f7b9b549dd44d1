import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cancelled } from '../../src/lib/abort.js'
import { LossyFeed, type Portion } from '../../src/lib/lossy-feed.js'
import { within } from '../support/until.js'

function read(
  feed: LossyFeed<number>,
  options: { readonly includes?: (item: number) => boolean; readonly heartbeatMs?: number } = {},
) {
  const abort = new AbortController()
  const { includes = () => true, heartbeatMs = 60_000 } = options
  const portions = feed.read({ includes, maxQueued: 10, maxPortion: 4, heartbeatMs, signal: abort.signal })
  return {
    next: async (): Promise<Portion<number>> => {
      const { value } = await within('a portion', 5_000, portions.next())
      return value
    },
    end: () => abort.abort(cancelled()),
  }
}

const none = { items: [], lost: 0 }

test('a reader gets what is published after its first portion, as far as it wants it', async () => {
  const feed = new LossyFeed<number>()
  feed.publish([1])
  const [all, even] = [read(feed), read(feed, { includes: item => item % 2 === 0 })]
  assert.deepEqual([await all.next(), await even.next()], [none, none])
  assert.equal(feed.readerCount, 2)
  feed.publish([2, 3])
  assert.deepEqual(await all.next(), { items: [2, 3], lost: 0 })
  assert.deepEqual(await even.next(), { items: [2], lost: 0 })
  const waiting = even.next()
  feed.publish([5])
  feed.publish([6])
  assert.deepEqual(await waiting, { items: [6], lost: 0 })
})

test('who reads slowly loses what finds its queue full, is told how many, and costs nobody else anything', async () => {
  const feed = new LossyFeed<number>()
  const [slow, quick] = [read(feed), read(feed)]
  await slow.next()
  await quick.next()
  for (let i = 0; i < 100; i++) {
    feed.publish([i])
    assert.deepEqual(await quick.next(), { items: [i], lost: 0 })
  }
  assert.deepEqual(await slow.next(), { items: [0, 1, 2, 3], lost: 90 })
  assert.deepEqual(await slow.next(), { items: [4, 5, 6, 7], lost: 0 })
  assert.deepEqual(await slow.next(), { items: [8, 9], lost: 0 })
  feed.publish([100])
  assert.deepEqual(await slow.next(), { items: [100], lost: 0 })
})

test('silence is told by empty portions, and a reader that ends is forgotten', async () => {
  const feed = new LossyFeed<number>()
  const reader = read(feed, { heartbeatMs: 1 })
  assert.deepEqual([await reader.next(), await reader.next(), await reader.next()], [none, none, none])
  const patient = read(feed)
  await patient.next()
  const waiting = patient.next()
  patient.end()
  await assert.rejects(waiting, /the caller went away/)
  reader.end()
  await assert.rejects(reader.next(), /the caller went away/)
  assert.equal(feed.readerCount, 0)
})
