import { type Bench, type Figure, inTurn, type Settings, timed } from '../bench.js'
import { nodeSide, type Ports, pythonSide, serverWithPorts } from '../ovsdb-world.js'

export const ovsdbLoad: Bench = {
  name: 'ovsdb-load',
  about: 'the OVSDB client reads a database of 10,000 ports, every column of every table',
  run: async settings => [...(await load(settings, 'bare')), ...(await load(settings, 'filled'))],
}

async function load(settings: Settings, ports: Ports): Promise<Figure[]> {
  const count = settings.smoke ? 100 : 10_000
  await using server = await serverWithPorts(count, ports)
  const samples = await inTurn(settings.rounds, {
    client: () => nodeSide('client-load', server),
    raw: () => nodeSide('raw-load', server),
    python: () => pythonSide('load', server),
    dump: () => timed(() => server.client('dump')),
  })
  const what = `ovsdb-load: ${count} ${ports} ports`
  const ours = samples.client.map(({ ms }) => ms)
  const raw = samples.raw.map(({ ms }) => ms)
  const python = samples.python.map(({ ms }) => ms)
  const perPort = ({ grownBytes }: { readonly grownBytes: number }) => grownBytes / count
  return [
    {
      name: `${what} / a raw socket and JSON.parse`,
      unit: 'ms',
      ours,
      theirs: raw,
      aim: { kind: 'times-as-long', atMost: 2 },
    },
    { name: `${what} / Python IDL`, unit: 'ms', ours, theirs: python, aim: { kind: 'times-faster', atLeast: 5 } },
    // What no client can better: the server's own work.
    { name: `${what}: the raw socket itself / Python IDL`, unit: 'ms', ours: raw, theirs: python },
    { name: `${what} / ovsdb-client dump`, unit: 'ms', ours, theirs: samples.dump },
    {
      name: `${what}, memory / Python IDL`,
      unit: 'bytes/port',
      ours: samples.client.map(perPort),
      theirs: samples.python.map(perPort),
    },
  ]
}
