import { type Fault, faults, surviveFaults } from '../support/crash-rounds.js'
import { laneTest } from '../support/lane.js'
import { seedOfRun } from '../support/random.js'
import { startTestbed } from '../support/testbed.js'

/** `scripts/torture crashes` has more. */
const asked = Number(process.env['OVS_BRIDGED_CRASH_ROUNDS'] ?? 0)

function crashTest(title: string, fault: Fault, rounds: number, options: { readonly only?: 'userspace' } = {}): void {
  const times = fault === faults.daemonKilled && asked > 0 ? asked : rounds
  laneTest(title, { ...options, timeoutMs: 300_000 + times * 10_000 }, async context => {
    const seed = seedOfRun()
    context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
    await using bed = await startTestbed(context.signal)
    const onRound = (text: string) => context.diagnostic(text)
    const { calls, unacknowledged, done } = await surviveFaults(bed, fault, times, seed, onRound)
    context.diagnostic(
      `${times} times ${fault.name}: ${calls} calls, ${unacknowledged} not acknowledged, ${done} of them done`,
    )
  })
}

crashTest(
  'a daemon that is killed at any instant keeps what it has acknowledged, and leaves nothing else',
  faults.daemonKilled,
  15,
  { only: 'userspace' },
)
crashTest('so it is when ovs-vswitchd is killed', faults.vswitchdKilled, 2, { only: 'userspace' })
crashTest('so it is when ovsdb-server is killed', faults.ovsdbKilled, 2, { only: 'userspace' })
crashTest('so it is when both are stopped for a while', faults.bothStopped, 1, { only: 'userspace' })
