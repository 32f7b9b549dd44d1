import type { Link, Qdisc } from '../kernel/index.js'
import { bondOf, isBond, recordOfBond } from './bond-port.js'
import type { Call } from './call.js'
import type { Host } from './host.js'
import { managedBridge } from './inventory.js'
import { isMirror, mirrorsTo } from './mirror-row.js'
import type { BridgeName } from './names.js'
import { bridgeOf, type OvsReplica, type OvsRows, portOfInterface } from './ovs.js'
import { roleOf, uplinkRoleOf } from './ownership.js'
import { isDeviceMade, type TapRecord } from './ownership-tap.js'
import { type PortVlans, portVlans } from './placement.js'
import { formatQos } from './qos-parse.js'
import { isInForce, qdiscOf, qosOf } from './qos-qdisc.js'
import { tunnelWarning } from './tunnel-route.js'

export type DriftKind =
  | 'missing-device'
  | 'missing-port'
  | 'wrong-tag'
  | 'wrong-qdisc'
  | 'dead-ifindex'
  | 'interface-error'
  | 'no-route'
  | 'device-down'

/** One thing of a port that is not as its record says. */
export interface Drift {
  readonly port: string
  /** Where it is to be; undefined: it is detached. */
  readonly bridge: string | undefined
  readonly kind: DriftKind
  /** Empty where the kind says all. */
  readonly intended: string
  readonly actual: string
}

interface Actual {
  readonly links: ReadonlyMap<string, Link>
  readonly qdiscs: ReadonlyMap<number, Qdisc>
}

/**
 * Compares what OVSDB says we own with what Open vSwitch and the kernel have, and changes nothing. `bridge` undefined: all.
 * Sorted by port. Errors: `not-found`.
 */
export async function reportDrift(host: Host, bridge: BridgeName | undefined, call: Call): Promise<Drift[]> {
  if (bridge !== undefined) managedBridge(host, bridge)
  const links = new Map((await host.kernel.listLinks(call.signal)).map(link => [link.name, link]))
  const actual: Actual = { links, qdiscs: await host.kernel.listQdiscs(call.signal) }
  const taps = [...host.records.all()].flatMap(({ record }) =>
    record.defunct ? [] : [...tapDrifts(host, record, actual)],
  )
  const uplinks = [...host.ovsdb.replica.rows('Port')].flatMap(port => [...uplinkDrifts(host, port, actual)])
  const bonds = [...host.ovsdb.replica.rows('Port')].flatMap(port => [...bondDrifts(host, port)])
  const drifts = [...taps, ...uplinks, ...bonds].filter(drift => bridge === undefined || drift.bridge === bridge)
  return drifts.sort((a, b) => (`${a.port} ${a.kind}` < `${b.port} ${b.kind}` ? -1 : 1))
}

function* tapDrifts(host: Host, record: TapRecord, { links, qdiscs }: Actual): Iterable<Drift> {
  const { name: port, bridge, backing } = record
  const drift = (kind: DriftKind, intended = '', actual = ''): Drift => ({ port, bridge, kind, intended, actual })
  const link = links.get(port)
  if (link === undefined && (backing.kind !== 'host' || bridge !== undefined)) yield drift('missing-device')
  if (link?.up === false && isDeviceMade(backing)) yield drift('device-down')
  if (link !== undefined && backing.kind !== 'host') {
    const wanted = qdiscOf(record.qos, link.mtuBytes)
    const found = qdiscs.get(link.index)
    if (!isInForce(wanted, found)) yield drift('wrong-qdisc', describeQos(record), describeQdisc(found))
  }
  if (bridge === undefined) return
  const row = portOfInterface(host.ovsdb.replica, port)
  const on = row && bridgeOf(host.ovsdb.replica, row)?.name
  if (row === undefined || on !== bridge) {
    yield drift('missing-port', `on ${bridge}`, on === undefined ? '' : `on ${on}`)
    return
  }
  if (hasWrongVlans(host, record, row)) {
    yield drift('wrong-tag', describeVlans(portVlans(record)), describeVlans(row))
  }
  yield* interfaceDrifts(host, port, bridge, link)
}

/** Whether a tap's port is in another VLAN than its record says. A bond and a mirror see to that of what they hold. */
export function hasWrongVlans(host: Host, record: TapRecord, port: OvsRows['Port']): boolean {
  if (bondOf(host, record.name) !== undefined) return false
  if (mirrorsTo(host.ovsdb.replica, port).some(mirror => isMirror(host, mirror))) return false
  return describeVlans(portVlans(record)) !== describeVlans(port)
}

/** What is wrong with its members is told of these. */
function* bondDrifts(host: Host, port: OvsRows['Port']): Iterable<Drift> {
  const { replica } = host.ovsdb
  if (!isBond(host, port) || !hasWrongBondVlans(replica, port)) return
  const [intended, actual] = [describeVlans(portVlans(recordOfBond(replica, port))), describeVlans(port)]
  yield { port: port.name, bridge: bridgeOf(replica, port)?.name, kind: 'wrong-tag', intended, actual }
}

/** Whether a bond of ours is in another VLAN than its record says, if it still has one. */
export function hasWrongBondVlans(replica: OvsReplica, port: OvsRows['Port']): boolean {
  const row = port.qos === undefined ? undefined : replica.get('QoS', port.qos)
  if (row === undefined || roleOf(row.external_ids) !== 'bond') return false
  return describeVlans(portVlans(recordOfBond(replica, port))) !== describeVlans(port)
}

/** Trunks and tunnels. */
function* uplinkDrifts(host: Host, port: OvsRows['Port'], { links }: Actual): Iterable<Drift> {
  const { name, external_ids } = port
  const role = uplinkRoleOf(host.instance, external_ids)
  const bridge = bridgeOf(host.ovsdb.replica, port)?.name
  if (role === undefined || bridge === undefined) return
  const link = links.get(name)
  if (role === 'trunk' && link === undefined) {
    yield { port: name, bridge, kind: 'missing-device', intended: '', actual: '' }
  }
  const warning = role === 'tunnel' ? tunnelWarning(host.ovsdb.replica, name) : undefined
  if (warning !== undefined) yield { port: name, bridge, kind: 'no-route', intended: '', actual: warning }
  yield* interfaceDrifts(host, name, bridge, role === 'trunk' ? link : undefined)
}

function* interfaceDrifts(host: Host, port: string, bridge: string, link: Link | undefined): Iterable<Drift> {
  const row = host.ovsdb.replica.find('Interface', 'name', port)
  if (row === undefined) return
  const { error = '', ofport, ifindex } = row
  if (error !== '' || ofport === undefined || ofport === -1) {
    const actual = error === '' ? 'it has no OpenFlow port' : error
    yield { port, bridge, kind: 'interface-error', intended: '', actual }
  } else if (link !== undefined && ifindex !== undefined && ifindex !== link.index) {
    yield { port, bridge, kind: 'dead-ifindex', intended: String(link.index), actual: String(ifindex) }
  }
}

function describeVlans({ tag, vlan_mode, trunks }: PortVlans): string {
  const words = [vlan_mode ?? '', tag === undefined ? 'no tag' : `tag ${tag}`]
  if (trunks.length > 0) words.push(`trunks ${trunks.join(',')}`)
  return words.filter(word => word !== '').join(', ')
}

function describeQos({ qos }: TapRecord): string {
  return describeFields(formatQos(qos))
}

function describeQdisc(qdisc: Qdisc | undefined): string {
  if (qdisc?.spec === undefined) return qdisc?.kind ?? ''
  return `${qdisc.kind}: ${describeFields(formatQos(qosOf(qdisc.spec)))}`
}

function describeFields(fields: Readonly<Record<string, string | undefined>>): string {
  return Object.entries(fields)
    .flatMap(([field, words]) => (words === undefined ? [] : [`${field} ${words}`]))
    .join(', ')
}
