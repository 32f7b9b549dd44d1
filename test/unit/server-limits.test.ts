import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Rate, Share } from '../../src/server/limits.js'

test('one holder gets half of the places, and always leaves one for another', () => {
  const share = new Share(10)
  const takenBy = (holder: string) => Array.from({ length: 20 }, () => share.take(holder)).filter(Boolean).length
  assert.equal(takenBy('a'), 5)
  assert.equal(takenBy('b'), 3)
  assert.equal(takenBy('c'), 1)
  assert.equal(takenBy('d'), 1)
  assert.equal(share.used, 10)
})

test('a place that is given back is there for anybody', () => {
  const share = new Share(2)
  assert(share.take('a'))
  assert(!share.take('a'))
  share.giveBack('a')
  share.giveBack('a')
  assert.equal(share.used, 0)
  assert(share.take('b'))
})

test("a rate lets a second's worth through at once, and then what time earns", () => {
  const rate = new Rate(10, 0)
  const taken = (nowMs: number) => Array.from({ length: 20 }, () => rate.take(nowMs)).filter(Boolean).length
  assert.equal(taken(0), 10)
  assert.equal(taken(99), 0)
  assert.equal(taken(301), 3)
  assert.equal(taken(100_000), 10)
})
