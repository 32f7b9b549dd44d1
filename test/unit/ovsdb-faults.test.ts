import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cutEveryByte, runRandomSchedule } from '../support/ovsdb-faults.js'
import { seedOfRun } from '../support/random.js'

/** Each cuts at every fourth byte, from another one on. */
const shares = [0, 1, 2, 3]

for (const direction of ['out', 'in'] as const) {
  const way = direction === 'out' ? 'from the server' : 'to the server'
  for (const share of shares) {
    test(`a session cut at every byte ${way} ends with the server's contents, and every change made once (${share})`, async context => {
      const bytes = await cutEveryByte(direction, share, shares.length)
      context.diagnostic(`${bytes} bytes`)
      assert.ok(bytes > 500)
    })
  }
}

test('random faults, transactions and cuts end with the contents of the server, and every change made once', async context => {
  const seed = seedOfRun()
  context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
  for (let run = 0; run < 25; run++) await runRandomSchedule(seed + run)
})
