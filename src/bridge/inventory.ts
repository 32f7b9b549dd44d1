import type { TapAddress } from './address-entry.js'
import { type Bond, bondOf, bondView, isBond } from './bond-port.js'
import type { Host } from './host.js'
import { mirrorDestinations } from './mirror-row.js'
import type { BridgeName, MacAddress, PortName, VlanId } from './names.js'
import { bridgeOf, type OvsRows, portsOf } from './ovs.js'
import { configOf, ownerOf, preExisted, uplinkRoleOf } from './ownership.js'
import type { TapBacking, TapRecord } from './ownership-tap.js'
import { bridgeNotFound, nameTaken, tapNotFound } from './problem.js'
import type { Qos } from './qos-parse.js'
import { tunnelWarning } from './tunnel-route.js'

export type TapState = 'active' | 'detached' | 'defunct'

/** A tap as OVSDB shows it. */
export interface Tap {
  readonly name: PortName
  /** undefined: detached. */
  readonly bridge: BridgeName | undefined
  readonly vlan: VlanId
  readonly mac: MacAddress | undefined
  readonly backing: TapBacking
  readonly state: TapState
  /** Port that bonds it with others. */
  readonly bond: string | undefined
  readonly qinqOuterVlan: VlanId | undefined
  /** Towards the endpoint. */
  readonly qos: Qos
  /** ovs-vswitchd.conf.db(5), Interface.error, or what else of it is missing; empty if nothing is wrong. */
  readonly ovsError: string
  /** Of the device; 0 while there is none. */
  readonly mtuBytes: number
  /** Seen behind it, the latest first. */
  readonly addresses: readonly TapAddress[]
}

/** A managed bridge as OVSDB shows it. */
export interface Bridge {
  readonly name: string
  readonly preExist: boolean
  /** Distinct over its taps, ascending. */
  readonly vlans: readonly VlanId[]
  /** Sorted. */
  readonly trunks: readonly string[]
  /** Sorted. */
  readonly tunnels: readonly string[]
  /** Sentences about tunnels through which nothing comes, each with the tunnel's name. */
  readonly warnings: readonly string[]
  /** What SetBridgeConfig set, as given. */
  readonly config: ReadonlyMap<string, string>
  readonly datapathType: string
  /** Destination taps, sorted. */
  readonly mirrors: readonly string[]
  /** By name. */
  readonly bonds: readonly Bond[]
}

/** The tap of a record. */
export function tapOf(host: Host, record: TapRecord): Tap {
  const row = host.ovsdb.replica.find('Interface', 'name', record.name)
  return {
    name: record.name,
    bridge: record.bridge,
    vlan: record.vlan,
    mac: record.mac,
    backing: record.backing,
    state: stateOf(record),
    bond: bondOf(host, record.name)?.name,
    qinqOuterVlan: record.qinqOuterVlan,
    qos: record.qos,
    ovsError: row === undefined ? missingPort(record) : errorOf(row),
    mtuBytes: Number(row?.mtu ?? record.mtu ?? 0),
    addresses: host.addresses.of(record),
  }
}

/** The userspace datapath has no error for a device that has gone under its port; its index is 0 then. */
function errorOf({ error = '', ifindex }: OvsRows['Interface']): string {
  return error === '' && ifindex === 0 ? 'its device is gone' : error
}

function stateOf({ defunct, bridge }: TapRecord): TapState {
  if (defunct) return 'defunct'
  return bridge === undefined ? 'detached' : 'active'
}

function missingPort(record: TapRecord): string {
  return record.bridge === undefined || record.defunct ? '' : 'its port is gone from Open vSwitch'
}

/** The tap of that name on whichever bridge. Errors: `not-found`, also of a defunct one. */
export function getTap(host: Host, name: PortName): Tap {
  const kept = host.records.get(name)
  if (kept === undefined || kept.record.defunct) throw tapNotFound(name)
  return tapOf(host, kept.record)
}

/** Which taps somebody wants; undefined: all. */
export interface TapScope {
  /** undefined: all bridges, and detached taps. */
  readonly bridge: BridgeName | undefined
  readonly kind: TapBacking['kind'] | undefined
  readonly vlan: VlanId | undefined
  /** Their names. */
  readonly taps: ReadonlySet<PortName> | undefined
}

export interface TapFilter extends TapScope {
  readonly includeDefunct: boolean
}

/** In no order. Errors: `not-found` for a bridge that is not managed. */
export function listTaps(host: Host, filter: TapFilter): Tap[] {
  if (filter.bridge !== undefined) managedBridge(host, filter.bridge)
  const taps: Tap[] = []
  for (const { record } of host.records.all()) {
    if (isWithin(filter, record) && (filter.includeDefunct || !record.defunct)) taps.push(tapOf(host, record))
  }
  return taps
}

const kinds = ['tuntap', 'host', 'container', 'adopted'] as const satisfies TapBacking['kind'][]
const states = ['active', 'detached', 'defunct'] as const satisfies TapState[]

/** How many taps there are of each kind in each state, defunct ones and noughts too. */
export function countTaps(host: Host): { kind: TapBacking['kind']; state: TapState; count: number }[] {
  const counts = kinds.flatMap(kind => states.map(state => ({ kind, state, count: 0 })))
  for (const { record } of host.records.all()) {
    const state = stateOf(record)
    const counted = counts.find(one => one.kind === record.backing.kind && one.state === state)
    if (counted !== undefined) counted.count++
  }
  return counts
}

/** How many taps are recorded of which that is true, defunct ones included. */
export function countRecords(host: Host, which: (record: TapRecord) => boolean): number {
  let count = 0
  for (const { record } of host.records.all()) if (which(record)) count++
  return count
}

export function isWithin(scope: TapScope, tap: Pick<TapRecord, 'name' | 'bridge' | 'vlan' | 'backing'>): boolean {
  const { bridge, kind, vlan, taps } = scope
  return (
    (bridge === undefined || tap.bridge === bridge) &&
    (kind === undefined || tap.backing.kind === kind) &&
    (vlan === undefined || tap.vlan === vlan) &&
    (taps === undefined || taps.has(tap.name))
  )
}

/** The row of a managed bridge. Errors: `not-found`. */
export function managedBridge(host: Host, name: string): OvsRows['Bridge'] {
  const row = host.ovsdb.replica.find('Bridge', 'name', name)
  if (row === undefined || ownerOf(row.external_ids) !== host.instance) throw bridgeNotFound(name)
  return row
}

/** Errors: `not-found` when no bridge of that name is managed. */
export function getBridge(host: Host, name: BridgeName): Bridge {
  return bridgeView(host, managedBridge(host, name), vlansByBridge(host))
}

/** The managed bridges, in no order. */
export function listBridges(host: Host): Bridge[] {
  const vlans = vlansByBridge(host)
  const rows = [...host.ovsdb.replica.rows('Bridge')].filter(row => ownerOf(row.external_ids) === host.instance)
  return rows.map(row => bridgeView(host, row, vlans))
}

/** VLANs of the taps on each bridge; defunct ones do not count. */
function vlansByBridge(host: Host): ReadonlyMap<string, ReadonlySet<VlanId>> {
  const byBridge = new Map<string, Set<VlanId>>()
  for (const { record } of host.records.all()) {
    if (record.defunct || record.bridge === undefined) continue
    const vlans = byBridge.get(record.bridge) ?? new Set()
    byBridge.set(record.bridge, vlans.add(record.vlan))
  }
  return byBridge
}

function bridgeView(host: Host, row: OvsRows['Bridge'], vlans: ReadonlyMap<string, ReadonlySet<VlanId>>): Bridge {
  return {
    name: row.name,
    preExist: preExisted(row.external_ids),
    vlans: [...(vlans.get(row.name) ?? [])].sort((a, b) => a - b),
    ...uplinksOf(host, row),
    config: configOf(row.external_ids),
    datapathType: row.datapath_type === '' ? 'system' : row.datapath_type,
    mirrors: mirrorDestinations(host, row),
    bonds: bondsOn(host, row),
  }
}

function bondsOn(host: Host, row: OvsRows['Bridge']): Bond[] {
  const ports = [...portsOf(host.ovsdb.replica, row)].filter(port => isBond(host, port))
  // One whose members are all defunct goes with them.
  const bonds = ports.map(port => bondView(host, port)).filter(({ members }) => members.length > 0)
  return bonds.sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** The trunks and tunnels of ours on a bridge, and what is to be said of them. */
function uplinksOf(host: Host, row: OvsRows['Bridge']): Pick<Bridge, 'trunks' | 'tunnels' | 'warnings'> {
  const { replica } = host.ovsdb
  const names = { trunk: new Array<string>(), tunnel: new Array<string>() }
  for (const port of portsOf(replica, row)) {
    const role = uplinkRoleOf(host.instance, port.external_ids)
    if (role !== undefined) names[role].push(port.name)
  }
  const tunnels = names.tunnel.sort()
  const warnings = tunnels.flatMap(name => {
    const warning = tunnelWarning(replica, name)
    return warning === undefined ? [] : [`${name}: ${warning}`]
  })
  return { trunks: names.trunk.sort(), tunnels, warnings }
}

/** Who has `name` in Open vSwitch or in our records, in words; undefined: nobody. Defunct taps of ours do not count. */
export function holderOf(host: Host, name: string): string | undefined {
  const kept = host.records.get(name)
  if (kept !== undefined) return kept.record.defunct ? undefined : 'a tap'
  const { replica } = host.ovsdb
  if (replica.find('Bridge', 'name', name) !== undefined) return 'a bridge'
  const port = replica.find('Port', 'name', name)
  if (port !== undefined) return `a port of bridge ${bridgeOf(replica, port)?.name ?? '(none)'}`
  return replica.find('Interface', 'name', name) === undefined ? undefined : 'an interface of Open vSwitch'
}

/** Throws `already-exists` for a name that {@link holderOf} knows. */
export function refuseTaken(host: Host, name: string): void {
  const holder = holderOf(host, name)
  if (holder !== undefined) throw nameTaken(name, holder)
}

/** Ports on a bridge that neither we nor the bridge itself put there. */
export function foreignPorts(host: Host, bridge: OvsRows['Bridge']): OvsRows['Port'][] {
  return [...portsOf(host.ovsdb.replica, bridge)].filter(
    port => port.name !== bridge.name && ownerOf(port.external_ids) !== host.instance,
  )
}
