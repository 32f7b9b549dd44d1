import { type Bench, byCallers, type Figure, quantile, type Settings, tapNames, timed } from '../bench.js'
import { fill, run, type Served, withService } from '../world.js'

const callers = 64

export const read: Bench = {
  name: 'read',
  about: `GetTap and ListTaps by 1 and by ${callers} callers`,
  run: settings => withService(settings, served => readAll(settings, served)),
}

async function readAll(settings: Settings, served: Served): Promise<Figure[]> {
  const count = settings.smoke ? 20 : 2_000
  const calls = settings.smoke ? 20 : 5_000
  const taps = tapNames(count)
  await fill(served, taps)
  const getOne = (tap: string) => served.api.getTap({ tap })
  const names = Array.from({ length: calls }, (_, i) => taps[(i * 7919) % count] ?? '')
  await byCallers(1, names.slice(0, calls / 5), getOne)
  const at = `with ${count} taps`
  const one: number[][] = []
  const many: number[][] = []
  const perSecond: number[] = []
  const byVsctl: number[] = []
  const pages: number[] = []
  const listing: number[] = []
  for (let round = 0; round < settings.rounds; round++) {
    one.push(await latencies(1, names, getOne))
    const wholeMs = await timed(async () => many.push(await latencies(callers, names, getOne)))
    perSecond.push((names.length / wholeMs) * 1_000)
    byVsctl.push(
      await timed(() => run(served, ['ovs-vsctl', `--db=${served.ovs.endpoint}`, 'get', 'interface', 'b7', 'ofport'])),
    )
    pages.push(quantile(await latencies(1, new Array<number>(20).fill(0), () => listAll(served)), 0.5))
    listing.push(await timed(() => run(served, ['ovs-vsctl', `--db=${served.ovs.endpoint}`, 'list', 'interface'])))
  }
  const p = (samples: readonly number[][], share: number) => samples.map(sample => quantile(sample, share))
  const manyPages = await latencies(callers, new Array<number>(callers).fill(0), () => listAll(served))
  return [
    {
      name: `read: GetTap ${at}, 1 caller, p50 / ovs-vsctl get interface`,
      unit: 'ms',
      ours: p(one, 0.5),
      theirs: byVsctl,
      aim: { kind: 'value', atMost: 1 },
    },
    { name: `read: GetTap ${at}, 1 caller, p99`, unit: 'ms', ours: p(one, 0.99) },
    { name: `read: GetTap ${at}, ${callers} callers, p50`, unit: 'ms', ours: p(many, 0.5) },
    { name: `read: GetTap ${at}, ${callers} callers, p99`, unit: 'ms', ours: p(many, 0.99) },
    { name: `read: GetTap ${at}, ${callers} callers, together`, unit: 'calls/s', ours: perSecond },
    {
      name: `read: ListTaps, all ${count} taps, 1 caller, p50 / ovs-vsctl list interface`,
      unit: 'ms',
      ours: pages,
      theirs: listing,
    },
    {
      name: `read: ListTaps, all ${count} taps, ${callers} callers, p50`,
      unit: 'ms',
      ours: [quantile(manyPages, 0.5)],
    },
  ]
}

/** Milliseconds of each call. */
async function latencies<T>(
  callers: number,
  items: readonly T[],
  call: (item: T) => Promise<unknown>,
): Promise<number[]> {
  const samples: number[] = []
  await byCallers(callers, items, async item => void samples.push(await timed(() => call(item))))
  return samples
}

/** Page after page. */
async function listAll({ api }: Served): Promise<void> {
  let pageToken = ''
  do {
    const { nextPageToken } = await api.listTaps({ pageToken })
    pageToken = nextPageToken
  } while (pageToken !== '')
}
