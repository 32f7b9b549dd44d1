import { type Bench, inTurn, timed } from '../bench.js'
import { nodeSide, pythonSide, serverWithPorts } from '../ovsdb-world.js'

export const ovsdbLoad: Bench = {
  name: 'ovsdb-load',
  about: 'the OVSDB client reads a database of 10,000 ports, every column of every table',
  async run(settings) {
    const count = settings.smoke ? 100 : 10_000
    await using server = await serverWithPorts(count)
    const samples = await inTurn(settings.rounds, {
      client: () => nodeSide('client-load', server),
      raw: () => nodeSide('raw-load', server),
      python: () => pythonSide('load', server),
      dump: () => timed(() => server.client('dump')),
    })
    const what = `ovsdb-load: ${count} ports`
    const ours = samples.client.map(({ ms }) => ms)
    const perPort = ({ grownBytes }: { readonly grownBytes: number }) => grownBytes / count
    return [
      {
        name: `${what} / a raw socket and JSON.parse`,
        unit: 'ms',
        ours,
        theirs: samples.raw.map(({ ms }) => ms),
        aim: { kind: 'times-as-long', atMost: 2 },
      },
      {
        name: `${what} / Python IDL`,
        unit: 'ms',
        ours,
        theirs: samples.python.map(({ ms }) => ms),
        aim: { kind: 'times-faster', atLeast: 5 },
      },
      { name: `${what} / ovsdb-client dump`, unit: 'ms', ours, theirs: samples.dump },
      {
        name: `${what}, memory / Python IDL`,
        unit: 'bytes/port',
        ours: samples.client.map(perPort),
        theirs: samples.python.map(perPort),
      },
    ]
  },
}
