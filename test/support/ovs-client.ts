import assert from 'node:assert/strict'
import { schema, type Tables } from '../../src/gen/vswitch.js'
import {
  type Endpoint,
  newTransaction,
  type OvsdbClient,
  type OvsdbEvent,
  openOvsdb,
  type Replicated,
  type Uuid,
} from '../../src/ovsdb/index.js'
import { soon } from './until.js'

const monitor = {
  Open_vSwitch: ['bridges', 'next_cfg', 'external_ids'],
  Bridge: ['name', 'ports', 'external_ids', 'datapath_id', 'flood_vlans'],
  Port: ['name', 'interfaces', 'tag', 'trunks', 'external_ids'],
  Interface: ['name', 'type', 'statistics'],
} as const
export type OvsView = Replicated<Tables, typeof monitor>
export type OvsTestClient = OvsdbClient<Tables, OvsView>

/** A client of an Open_vSwitch database that comes back soon. */
export function openOvs(
  server: { readonly socketPath: string } | { readonly endpoint: Endpoint },
  options: {
    readonly lock?: string
    readonly onEvent?: (event: OvsdbEvent) => void
    readonly trace?: (line: string) => void
  } = {},
): OvsTestClient {
  const endpoint: Endpoint = 'endpoint' in server ? server.endpoint : { kind: 'unix', path: server.socketPath }
  return openOvsdb({ endpoint, schema, monitor, patience: { minBackoffMs: 20, maxBackoffMs: 50 }, ...options })
}

export function root(client: OvsTestClient): Uuid {
  const [row] = client.replica.rows('Open_vSwitch')
  assert.ok(row)
  return row._uuid
}

export async function addBridge(client: OvsTestClient, name: string): Promise<Uuid> {
  const tx = newTransaction(schema)
  const bridge = tx.insert('Bridge', { name })
  tx.mutate('Open_vSwitch', root(client), 'bridges', 'insert', [bridge])
  return (await client.transact(tx, { signal: soon() })).uuid(bridge)
}

/** The replica's contents, comparable. */
export function contents({ replica }: OvsTestClient): unknown {
  const byUuid = (a: { _uuid: string }, b: { _uuid: string }) => (a._uuid < b._uuid ? -1 : 1)
  return [
    [...replica.rows('Bridge')].sort(byUuid).map(row => ({ ...row, ports: [...row.ports].sort() })),
    [...replica.rows('Port')].sort(byUuid),
    [...replica.rows('Interface')].sort(byUuid),
    [...replica.rows('Open_vSwitch')].map(row => ({ ...row, bridges: [...row.bridges].sort() })),
  ]
}

/** What another client finds that starts now. */
export async function freshContents(server: { readonly socketPath: string }): Promise<unknown> {
  await using other = openOvs(server)
  await other.ready(soon())
  return contents(other)
}
