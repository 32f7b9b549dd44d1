import type { Uuid } from '../ovsdb/index.js'
import { bondOf } from './bond-port.js'
import type { OvsTransaction } from './commit.js'
import type { Host } from './host.js'
import { endMirrorsAt } from './mirror.js'
import { bridgeOf, type OvsReplica, type OvsRows } from './ovs.js'
import { ownerOf, roleOf } from './ownership.js'
import { movePorts } from './placement.js'
import type { KeptRecord } from './tap-records.js'

/**
 * Takes ports off their bridges; what nothing refers to any more, the database drops. Ports that are on none are passed
 * over.
 */
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

/** The port of a tap of ours. One of its name that has neither our marks nor its record is somebody else's. */
export function portOfTap(host: Host, replica: OvsReplica, { record, uuid }: KeptRecord): OvsRows['Port'] | undefined {
  const port = replica.find('Port', 'name', record.name)
  if (port === undefined || port.qos === uuid) return port
  return ownerOf(port.external_ids) === host.instance && roleOf(port.external_ids) === 'tap' ? port : undefined
}

/** Takes taps away, port and record, and the mirrors that need them. A tap whose port is gone already loses its record. */
export function removeTaps(
  host: Host,
  transaction: OvsTransaction,
  replica: OvsReplica,
  taps: readonly KeptRecord[],
): void {
  const names = taps.map(({ record }) => record.name)
  const ports = taps.flatMap(tap => portOfTap(host, replica, tap) ?? [])
  endMirrorsAt(host, transaction, replica, names)
  removePorts(transaction, replica, ports)
  leaveBonds(host, transaction, replica, names)
  // Left to the database's garbage collection, a port would still refer to its record when that is deleted.
  for (const port of ports) transaction.delete('Port', port._uuid)
  for (const { uuid } of taps) transaction.delete('QoS', uuid)
}

/** Takes those of the taps that are in bonds out of them. A bond that is left without a member goes. */
export function leaveBonds(
  host: Host,
  transaction: OvsTransaction,
  replica: OvsReplica,
  taps: readonly string[],
): void {
  const byBond = new Map<OvsRows['Port'], Uuid[]>()
  for (const tap of taps) {
    const bond = bondOf(host, tap)
    const iface = replica.find('Interface', 'name', tap)
    if (bond !== undefined && iface !== undefined) byBond.set(bond, [...(byBond.get(bond) ?? []), iface._uuid])
  }
  for (const [bond, leaving] of byBond) {
    // Port.interfaces must never be empty.
    if (leaving.length === bond.interfaces.length) removeBonds(transaction, replica, [bond])
    else transaction.mutate('Port', bond._uuid, 'interfaces', 'delete', leaving)
  }
}

/** Takes bonds away, port and record. */
export function removeBonds(transaction: OvsTransaction, replica: OvsReplica, bonds: readonly OvsRows['Port'][]): void {
  removePorts(transaction, replica, bonds)
  for (const { _uuid, qos } of bonds) {
    transaction.delete('Port', _uuid)
    if (qos !== undefined) transaction.delete('QoS', qos)
  }
}
