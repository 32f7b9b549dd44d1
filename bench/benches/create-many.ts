import { type Bench, type Figure, inTurn, type Settings, tapNames, timed } from '../bench.js'
import { bulkTimeoutMs, expectTaps, requestOf, withService } from '../world.js'
import { createAtOnce } from './create-par.js'

export const createMany: Bench = {
  name: 'create-many',
  about: 'CreateTaps, many in one call',
  async run(settings) {
    const figures: Figure[] = []
    for (const count of sizes(settings)) figures.push(await createIn(settings, count))
    return figures
  },
}

function sizes({ smoke, quick }: Settings): number[] {
  if (smoke) return [20]
  return quick ? [1_000] : [1_000, 5_000]
}

async function createIn(settings: Settings, count: number): Promise<Figure> {
  const taps = tapNames(count)
  const { service, batch } = await inTurn(settings.rounds, {
    service: () =>
      withService(settings, async served => {
        const request = { taps: taps.map(requestOf) }
        const ms = await timed(() => served.api.createTaps(request, { timeoutMs: bulkTimeoutMs }))
        await expectTaps(served, count)
        return ms
      }),
    batch: () => createAtOnce(settings, taps),
  })
  return {
    name: `create-many: CreateTaps of ${count} / ip -batch and one ovs-vsctl`,
    unit: 'ms',
    ours: service,
    theirs: batch,
    aim: { kind: 'times-as-long', atMost: 1.1 },
  }
}
