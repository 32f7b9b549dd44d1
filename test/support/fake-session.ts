import { schema as generated, type Tables } from '../../src/gen/vswitch.js'
import {
  type OvsdbClient,
  type OvsdbOptions,
  openOvsdb,
  type Patience,
  type Replicated,
} from '../../src/ovsdb/index.js'
import type { FakeOvsdbServer, Received } from './fake-ovsdb-server.js'

/** What the clients of these tests replicate. */
export const monitor = { Bridge: ['name', 'ports'], Port: ['name', 'tag'] } as const
export type FakeView = Replicated<Tables, typeof monitor>
export type FakeClient = OvsdbClient<Tables, FakeView>

const column = { type: 'string' }
/** As `get_schema` answers. */
export const liveSchema = {
  name: 'Open_vSwitch',
  version: '8.0.0',
  tables: {
    Bridge: {
      columns: { name: column, ports: { type: { key: 'uuid', min: 0, max: 'unlimited' } } },
      indexes: [['name']],
    },
    Port: { columns: { name: column, tag: { type: { key: 'integer', min: 0 } } }, indexes: [['name']] },
  },
}
export const br0 = '0a1b2c3d-0000-4000-8000-000000000001'
export const br1 = '0a1b2c3d-0000-4000-8000-000000000002'
export const noTransaction = '00000000-0000-0000-0000-000000000000'

export function openFake(
  server: FakeOvsdbServer,
  patience: Partial<Patience> = {},
  others: Partial<OvsdbOptions<Tables, typeof monitor>> = {},
): FakeClient {
  return openOvsdb({
    endpoint: { kind: 'unix', path: server.socketPath },
    schema: generated,
    monitor,
    patience: { minBackoffMs: 10, maxBackoffMs: 20, ...patience },
    ...others,
  })
}

/** Answers the handshake with `dump`; `others` gets the rest. */
export function serving(
  dump: unknown,
  others: (request: Received) => void = () => undefined,
  schema: unknown = liveSchema,
): (request: Received) => void {
  return request => {
    if (request.method === 'set_db_change_aware') request.refuse('unknown method')
    else if (request.method === 'get_schema') request.answer(schema)
    else if (request.method === 'monitor_cond_since') request.answer([false, noTransaction, dump])
    else others(request)
  }
}

export function bridges(...rows: readonly (readonly [string, string])[]): unknown {
  return { Bridge: Object.fromEntries(rows.map(([uuid, name]) => [uuid, { initial: { name } }])) }
}
