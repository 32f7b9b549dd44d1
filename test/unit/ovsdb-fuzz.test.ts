import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fuzz } from '../support/ovsdb-fuzz.js'
import { seedOfRun } from '../support/random.js'

test('spoilt messages and random values are taken or refused, and never anything else', context => {
  const seed = seedOfRun()
  context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
  const { taken, refused } = fuzz(10_000, seed)
  assert.ok(taken > 500 && refused > 500)
})
