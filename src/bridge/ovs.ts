import type { Tables } from '../gen/vswitch.js'
import type { Monitored, OvsdbClient, Replica, Replicated } from '../ovsdb/index.js'
import { BridgeError } from './problem.js'

/** What the domain reads of the database, and so all that is replicated. */
export const monitored = {
  Open_vSwitch: [
    'bridges',
    'next_cfg',
    'cur_cfg',
    'ovs_version',
    'db_version',
    'datapath_types',
    'other_config',
    'external_ids',
  ],
  Bridge: ['name', 'ports', 'mirrors', 'netflow', 'datapath_type', 'external_ids'],
  Port: [
    'name',
    'interfaces',
    'tag',
    'trunks',
    'vlan_mode',
    'qos',
    'bond_mode',
    'lacp',
    'other_config',
    'external_ids',
  ],
  Interface: [
    'name',
    'type',
    'options',
    'ofport',
    'error',
    'status',
    'ifindex',
    'admin_state',
    'mtu',
    'external_ids',
    'statistics',
  ],
  QoS: ['type', 'external_ids'],
  Mirror: ['name', 'select_all', 'select_src_port', 'select_dst_port', 'output_port', 'external_ids'],
  NetFlow: ['targets', 'engine_type', 'engine_id', 'active_timeout', 'external_ids'],
} as const satisfies Monitored<Tables>

/** What the domain cannot do without; the rest of what it reads may be missing in an older Open vSwitch. */
export const needed = {
  Open_vSwitch: ['bridges', 'next_cfg', 'cur_cfg'],
  Bridge: ['name', 'ports', 'datapath_type', 'external_ids'],
  Port: ['name', 'interfaces', 'tag', 'vlan_mode', 'qos', 'external_ids'],
  Interface: ['name', 'type', 'ofport', 'error', 'ifindex', 'mtu', 'external_ids'],
  QoS: ['type', 'external_ids'],
} as const satisfies Monitored<Tables>

export type OvsRows = Replicated<Tables, typeof monitored>
export type OvsReplica = Replica<OvsRows>
export type OvsClient = OvsdbClient<Tables, OvsRows>

export type DatapathType = 'system' | 'netdev'

/** The one row of Open_vSwitch(5)'s root table; undefined until the database is initialised. */
export function rootOf(replica: OvsReplica): OvsRows['Open_vSwitch'] | undefined {
  for (const row of replica.rows('Open_vSwitch')) return row
  return undefined
}

/** As {@link rootOf}. Throws `backend-unavailable` while there is none. */
export function requireRoot(replica: OvsReplica): OvsRows['Open_vSwitch'] {
  const root = rootOf(replica)
  if (root === undefined) {
    const message = 'the database has no Open_vSwitch row: it is not initialised'
    throw new BridgeError({ kind: 'backend-unavailable', reason: 'OVSDB_UNAVAILABLE', message })
  }
  return root
}

/** The bridge that a port is on. */
export function bridgeOf(replica: OvsReplica, port: OvsRows['Port']): OvsRows['Bridge'] | undefined {
  for (const bridge of replica.referrers('Bridge', 'ports', port._uuid)) return bridge
  return undefined
}

/** The ports of a bridge, its local one included. */
export function* portsOf(replica: OvsReplica, bridge: OvsRows['Bridge']): Iterable<OvsRows['Port']> {
  for (const uuid of bridge.ports) {
    const port = replica.get('Port', uuid)
    if (port !== undefined) yield port
  }
}

/** The port that has this interface: of the same name, or a bond. */
export function portOfInterface(replica: OvsReplica, name: string): OvsRows['Port'] | undefined {
  const iface = replica.find('Interface', 'name', name)
  if (iface === undefined) return undefined
  for (const port of replica.referrers('Port', 'interfaces', iface._uuid)) return port
  return undefined
}
