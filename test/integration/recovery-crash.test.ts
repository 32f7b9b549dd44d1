import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { bridgeRoles } from '../../src/server/role.js'
import { callsMade } from '../support/crash-model.js'
import { type Script, surviveFaults } from '../support/crash-rounds.js'
import { lane, laneTest } from '../support/lane.js'
import { seedOfRun } from '../support/random.js'
import { startTestbed } from '../support/testbed.js'

/** Daemons to be killed; `npm run test:all` and `scripts/torture crashes` ask for more. */
const asked = Number(process.env['OVS_BRIDGED_TEST_CRASHES'] ?? (lane === 'userspace' ? 20 : 5))

/** 300 calls for each daemon that is killed, and 200 in all where the kernel is a user-mode one, some ten times slower. */
const script: Script =
  lane === 'userspace'
    ? { calls: 3_000, strikes: { daemonKilled: 10, vswitchdKilled: 1, ovsdbKilled: 1, bothStopped: 1 } }
    : { calls: 200, strikes: { daemonKilled: 5, vswitchdKilled: 1, ovsdbKilled: 1, bothStopped: 1 } }

const tests = Math.ceil(asked / script.strikes.daemonKilled)

for (let i = 0; i < tests; i++) {
  const which = tests === 1 ? '' : `, ${i + 1} of ${tests}`
  laneTest(
    `whatever is killed or stopped amid eight callers, what was acknowledged holds, and nothing else is left${which}`,
    { isLong: true, timeoutMs: lane === 'userspace' ? 300_000 : 600_000 },
    async context => {
      const seed = seedOfRun() + i
      context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
      // The test of policing, which comes before, shows what comes of its absence.
      if (lane === 'kernel') execFileSync('modprobe', ['act_police'])
      await using bed = await startTestbed(context.signal)
      const survived = await surviveFaults(bed, script, seed)
      for (const [name, { times, calls, unacknowledged, done }] of survived) {
        const unknown = `${unacknowledged} not acknowledged, ${done} of them done`
        context.diagnostic(`${times} times ${name}: ${calls} calls, ${unknown}`)
      }
    },
  )
}

laneTest(
  'the callers that daemons are killed under make every call that is more than a look',
  { only: 'userspace' },
  async () => {
    const made = await callsMade(10_000, 1)
    const missing = Object.entries(bridgeRoles).flatMap(([call, role]) =>
      role === 'viewer' || made.has(call) ? [] : call,
    )
    // That one is the last.
    assert.deepEqual(missing, ['destroyAllBridges'])
  },
)
