import { Disposables } from '../../src/lib/disposables.js'
import { attackedDoors, callAll, underAttack } from '../../test/support/attack.js'
import { type Attack, attacks as kinds } from '../../test/support/attackers.js'
import { createAuthority } from '../../test/support/certificates.js'
import { type Api, connectTo } from '../../test/support/rpc.js'
import { type Bench, type Figure, quantile, type Settings, tapNames } from '../bench.js'
import { residentMib } from '../usage.js'
import { fill, type Served, withService } from '../world.js'

export const attacks: Bench = {
  name: 'attacks',
  about: 'ListBridges by four callers while others attack the daemon',
  run: async settings => {
    const figures: Figure[] = []
    // Each with a daemon of its own, unless it is only to be seen that all of it runs.
    const chosen = settings.attacks.length > 0 ? settings.attacks : kinds
    const runs = settings.smoke ? [chosen] : chosen.map(kind => [kind])
    for (const some of runs) figures.push(...(await measure(settings, some)))
    return figures
  },
}

async function measure(settings: Settings, some: readonly Attack[]): Promise<Figure[]> {
  using authority = createAuthority()
  const flags = attackedDoors(authority)
  return await withService(settings, served => compareAll(settings, served, some), { flags })
}

async function compareAll(settings: Settings, served: Served, some: readonly Attack[]): Promise<Figure[]> {
  // So that an answer is more than a connection's first window.
  await fill(served, tapNames(300))
  await using callers = new Disposables()
  const apis = [1, 2, 3, 4].map(() => callers.use(connectTo(served.daemon.address, { own: true })).api)
  const figures: Figure[] = []
  for (const kind of some) figures.push(...(await compare(settings, served, apis, kind)))
  return figures
}

async function compare(settings: Settings, served: Served, apis: readonly Api[], kind: Attack): Promise<Figure[]> {
  const calls = settings.smoke ? 8 : 1_000
  if (!settings.smoke) await callAll(apis, calls)
  const [quiet, attacked, held]: [number[][], number[][], number[]] = [[], [], []]
  for (let round = 0; round < settings.rounds; round++) {
    quiet.push(await callAll(apis, calls))
    await underAttack(kind, served.daemon, async () => {
      attacked.push(await callAll(apis, calls))
      held.push(residentMib(served.daemon.pid))
    })
  }
  const p = (samples: readonly number[][], share: number) => samples.map(sample => quantile(sample, share))
  const what = `attacks: ${kind}`
  return [
    { name: `${what}, p50 / without`, unit: 'ms', ours: p(attacked, 0.5), theirs: p(quiet, 0.5) },
    {
      name: `${what}, p99 / without`,
      unit: 'ms',
      ours: p(attacked, 0.99),
      theirs: p(quiet, 0.99),
      aim: { kind: 'value', atMost: 50 },
    },
    { name: `${what}, resident memory`, unit: 'MiB', ours: held },
  ]
}
