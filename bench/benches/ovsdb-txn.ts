import { startOvsdbServer } from '../../test/support/ovsdb-server.js'
import { type Bench, inTurn, timed } from '../bench.js'
import { nodeSide, pythonSide } from '../ovsdb-world.js'

/** Of the pipelined ones; enough to keep the server busy. */
const inFlight = 64

const increment = JSON.stringify([
  'Open_vSwitch',
  { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 1]] },
])

export const ovsdbTxn: Bench = {
  name: 'ovsdb-txn',
  about: 'the OVSDB client commits 10,000 small transactions',
  async run(settings) {
    const [many, some, few] = settings.smoke ? [100, 20, 5] : [10_000, 2_000, 100]
    await using server = await startOvsdbServer()
    const samples = await inTurn(settings.rounds, {
      pipelined: () => nodeSide('client-transact', server, many, inFlight),
      raw: () => nodeSide('raw-transact', server, many),
      rawBlind: () => nodeSide('raw-blind-transact', server, many),
      oneByOne: () => nodeSide('client-transact', server, some, 1),
      python: () => pythonSide('transact', server, some),
      program: () =>
        timed(async () => {
          for (let i = 0; i < few; i++) await server.client('transact', increment)
        }),
    })
    const ms = (results: readonly { readonly ms: number }[]) => results.map(result => result.ms)
    const each = ms(samples.oneByOne).map(all => (all / some) * few)
    return [
      {
        name: `ovsdb-txn: ${many} transactions, pipelined / a raw socket that is told of the changes too`,
        unit: 'ms',
        ours: ms(samples.pipelined),
        theirs: ms(samples.raw),
        // 90% of its rate.
        aim: { kind: 'times-as-long', atMost: 1.11 },
      },
      {
        name: `ovsdb-txn: ${many} transactions, pipelined / a raw socket that is told of nothing`,
        unit: 'ms',
        ours: ms(samples.pipelined),
        theirs: ms(samples.rawBlind),
      },
      {
        name: `ovsdb-txn: ${some} transactions, one after another / Python IDL`,
        unit: 'ms',
        ours: ms(samples.oneByOne),
        theirs: ms(samples.python),
      },
      {
        name: `ovsdb-txn: ${few} transactions, one after another / ovsdb-client transact`,
        unit: 'ms',
        ours: each,
        theirs: samples.program,
      },
    ]
  },
}
