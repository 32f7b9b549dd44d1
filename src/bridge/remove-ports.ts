import type { Uuid } from '../ovsdb/index.js'
import type { OvsTransaction } from './commit.js'
import { bridgeOf, type OvsReplica, type OvsRows } from './ovs.js'
import { movePorts } from './placement.js'
import type { KeptRecord } from './tap-records.js'

/** Takes ports off their bridges; what nothing refers to any more, the database drops. Ports that are on none are passed over. */
export function removePorts(transaction: OvsTransaction, replica: OvsReplica, ports: Iterable<OvsRows['Port']>): void {
  const byBridge = new Map<Uuid, { readonly bridge: OvsRows['Bridge']; readonly ports: Uuid[] }>()
  for (const port of ports) {
    const bridge = bridgeOf(replica, port)
    if (bridge === undefined) continue
    const entry = byBridge.get(bridge._uuid) ?? { bridge, ports: [] }
    entry.ports.push(port._uuid)
    byBridge.set(bridge._uuid, entry)
  }
  for (const { bridge, ports: doomed } of byBridge.values()) {
    movePorts(transaction, bridge, 'delete', doomed)
  }
}

/** Takes taps away, port and record. A tap whose port is gone already loses its record. */
export function removeTaps(transaction: OvsTransaction, replica: OvsReplica, taps: readonly KeptRecord[]): void {
  const ports = taps.flatMap(({ record, uuid }) => {
    const port = replica.find('Port', 'name', record.name)
    // A port of that name that does not carry our record is somebody else's.
    return port?.qos === uuid ? [port] : []
  })
  removePorts(transaction, replica, ports)
  // Left to the database's garbage collection, a port would still refer to its record when that is deleted.
  for (const port of ports) transaction.delete('Port', port._uuid)
  for (const { uuid } of taps) transaction.delete('QoS', uuid)
}
