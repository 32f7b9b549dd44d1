import assert from 'node:assert/strict'
import { laneTest } from '../support/lane.js'
import { surviveKills } from '../support/ovsdb-kills.js'
import { seedOfRun } from '../support/random.js'

laneTest(
  'a server killed again and again under eight callers loses nothing and makes nothing twice',
  { only: 'userspace', timeoutMs: 180_000 },
  async context => {
    const seed = seedOfRun()
    context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
    const { acknowledged, unknown, found } = await surviveKills(12, seed, AbortSignal.timeout(170_000))
    context.diagnostic(
      `${acknowledged} changes acknowledged, ${unknown} answers lost, ${found} of them to changes that were made`,
    )
    assert.ok(acknowledged > 0)
  },
)
