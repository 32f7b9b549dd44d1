import assert from 'node:assert/strict'
import { laneTest } from '../support/lane.js'
import { allMishaps, type Mishap, survive } from '../support/ovsdb-kills.js'
import { seedOfRun } from '../support/random.js'

for (const [what, times, kinds] of [
  ['killed', 12, ['kill']],
  ['killed, cut off, compacted, converted and taken out of the server', 25, allMishaps],
] as const satisfies readonly (readonly [string, number, readonly Mishap[]])[]) {
  laneTest(
    `a database that is ${what} again and again under eight callers loses nothing and makes nothing twice`,
    { only: 'userspace', timeoutMs: 180_000 },
    async context => {
      const seed = seedOfRun()
      context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
      const { acknowledged, unknown, found } = await survive(times, kinds, seed, AbortSignal.timeout(170_000))
      context.diagnostic(
        `${acknowledged} changes acknowledged, ${unknown} answers lost, ${found} of them to changes that were made`,
      )
      assert.ok(acknowledged > 0)
    },
  )
}
