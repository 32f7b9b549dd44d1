import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cutEveryByte, runRandomSchedule } from '../support/ovsdb-faults.js'
import { seedOfRun } from '../support/random.js'

/** Each cuts at every eighth byte, from another one on; all at the same time. */
const shares = [0, 1, 2, 3, 4, 5, 6, 7]

for (const direction of ['out', 'in'] as const) {
  const way = direction === 'out' ? 'from the server' : 'to the server'
  test(`a session cut at every byte ${way} ends with the server's contents, and every change made once`, async context => {
    const bytes = await Promise.all(shares.map(share => cutEveryByte(direction, share, shares.length)))
    context.diagnostic(`${Math.max(...bytes)} bytes`)
    assert.ok(Math.min(...bytes) > 500)
  })
}

test('random faults, transactions and cuts end with the contents of the server, and every change made once', async context => {
  const seed = seedOfRun()
  context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
  for (let run = 0; run < 25; run++) await runRandomSchedule(seed + run)
})
