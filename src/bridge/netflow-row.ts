import type { Engine } from '../netflow/index.js'
import type { Host } from './host.js'
import { managedBridge } from './inventory.js'
import type { OvsReplica, OvsRows } from './ovs.js'
import { type NetflowRecord, readNetflowRecord } from './ownership.js'
import { netflowExists, noNetflow } from './problem.js'

/** A NetFlow of ours as the database has it. */
export interface KeptNetflow {
  readonly row: OvsRows['NetFlow']
  readonly record: NetflowRecord
}

/** The NetFlow of ours that a bridge has. */
export function netflowOf(host: Host, bridge: OvsRows['Bridge']): KeptNetflow | undefined {
  const row = bridge.netflow && host.ovsdb.replica.get('NetFlow', bridge.netflow)
  const record = row && readNetflowRecord(host.instance, row.external_ids)
  return row === undefined || record === undefined ? undefined : { row, record }
}

/** Errors: `not-found` for a bridge that is not managed, and for one without a NetFlow of ours. */
export function keptNetflow(host: Host, bridge: string): KeptNetflow {
  const kept = netflowOf(host, managedBridge(host, bridge))
  if (kept === undefined) throw noNetflow(bridge)
  return kept
}

/** Throws `already-exists` for a bridge that has a NetFlow. */
export function refuseNetflow(host: Host, bridge: OvsRows['Bridge']): void {
  if (bridge.netflow !== undefined) {
    throw netflowExists(bridge.name, netflowOf(host, bridge) === undefined ? "somebody else's" : 'a')
  }
}

/** An engine that no NetFlow of this database has. */
export function freeEngine(replica: OvsReplica): Engine {
  const taken = new Set(Array.from(replica.rows('NetFlow'), row => (row.engine_type ?? 0) * 256 + (row.engine_id ?? 0)))
  // Not from the beginning: Open vSwitch's own choice starts there, and a stale exporter may bear a former number.
  const start = Math.floor(Math.random() * 65_536)
  const number = Array.from({ length: 65_536 }, (_, i) => (start + i) % 65_536).find(free => !taken.has(free)) ?? start
  return { type: number >> 8, id: number & 0xff }
}
