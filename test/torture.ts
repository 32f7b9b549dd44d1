/** Runs the faults of the OVSDB client's tests for long: see scripts/torture. */

import { runRandomSchedule } from './support/ovsdb-faults.js'
import { fuzz } from './support/ovsdb-fuzz.js'
import { allMishaps, survive } from './support/ovsdb-kills.js'
import { seedOfRun } from './support/random.js'

const [what = '', count = ''] = process.argv.slice(2)
const times = Number(count)
const seed = seedOfRun()
const startedAt = performance.now()
process.stdout.write(`OVS_BRIDGED_TEST_SEED=${seed}\n`)
const outcome = await run()
process.stdout.write(`${what} ${times}: ${outcome}, ${Math.round((performance.now() - startedAt) / 1000)} s\n`)

async function run(): Promise<string> {
  switch (what) {
    case 'fuzz': {
      const { taken, refused } = fuzz(times, seed)
      return `${taken} inputs taken, ${refused} refused`
    }
    case 'faults':
      for (let i = 0; i < times; i++) await runRandomSchedule(seed + i)
      return 'the replica was equal each time'
    case 'kills':
    case 'mishaps': {
      const kinds = what === 'kills' ? (['kill'] as const) : allMishaps
      const { acknowledged, unknown, found } = await survive(times, kinds, seed, AbortSignal.timeout(3_600_000))
      return `${acknowledged} changes acknowledged and made once, ${unknown} of their answers lost, ${found} of which were found to be made already`
    }
    default:
      throw new Error(`nothing to run for "${what}"`)
  }
}
