import { type Bench, type Figure, inTurn, type Settings, tapNames, timed } from '../bench.js'
import { openRawScript, warmUp } from '../raw-script.js'
import { bulkTimeoutMs, expectTaps, requestOf, withoutService, withService } from '../world.js'
import { createAtOnce } from './create-par.js'

export const createMany: Bench = {
  name: 'create-many',
  about: 'CreateTaps, many in one call',
  async run(settings) {
    const figures: Figure[] = []
    for (const count of sizes(settings)) figures.push(...(await createIn(settings, count)))
    return figures
  },
}

function sizes({ smoke, quick }: Settings): number[] {
  if (smoke) return [20]
  return quick ? [1_000] : [1_000, 5_000]
}

async function createIn(settings: Settings, count: number): Promise<Figure[]> {
  const taps = tapNames(count)
  const { service, batch, script } = await inTurn(settings.rounds, {
    service: () =>
      withService(settings, async served => {
        const request = { taps: taps.map(requestOf) }
        const ms = await timed(() => served.api.createTaps(request, { timeoutMs: bulkTimeoutMs }))
        await expectTaps(served, count)
        return ms
      }),
    batch: () => createAtOnce(settings, taps),
    script: () => createByScript(settings, taps),
  })
  const what = `create-many: CreateTaps of ${count}`
  return [
    {
      name: `${what} / ip -batch and one ovs-vsctl`,
      unit: 'ms',
      ours: service,
      theirs: batch,
      aim: { kind: 'times-as-long', atMost: 1.1 },
    },
    { name: `${what} / raw JSON-RPC script`, unit: 'ms', ours: service, theirs: script },
  ]
}

/** The floor: the same devices and rows, and no service stands between. */
function createByScript(settings: Settings, taps: readonly string[]): Promise<number> {
  return withoutService(settings, async world => {
    using script = await openRawScript(world.ovs.endpoint)
    await warmUp(settings, world, script.addTap)
    const ms = await timed(() => script.addTaps(taps))
    await expectTaps(world, taps.length)
    return ms
  })
}
