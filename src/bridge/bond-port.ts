import type { Host } from './host.js'
import type { PortName, VlanId } from './names.js'
import { bridgeOf, type OvsReplica, type OvsRows, portOfInterface } from './ovs.js'
import { type BondRecord, ownerOf, readBondRecord, roleOf } from './ownership.js'
import { inUse, tapNotOnBridge } from './problem.js'

/** ovs-vswitchd.conf.db(5), Port.bond_mode. */
export type BondMode = 'active-backup' | 'balance-slb' | 'balance-tcp'

/** ovs-vswitchd.conf.db(5), Port.lacp. */
export type LacpMode = 'off' | 'active' | 'passive'

/** A bond as OVSDB shows it. */
export interface Bond {
  readonly name: string
  readonly bridge: string
  /** Taps that are not defunct, sorted. */
  readonly members: readonly string[]
  readonly mode: BondMode
  readonly lacp: LacpMode
  readonly lacpFallback: boolean
  /** VLAN it carries untagged; undefined: all, tagged. */
  readonly vlan: VlanId | undefined
  readonly qinqOuterVlan: VlanId | undefined
}

/** Port.other_config: work as active-backup while the far side does not negotiate. */
export const lacpFallbackKey = 'lacp-fallback-ab'

/** Whether a port is a bond that we made. */
export function isBond(host: Host, port: OvsRows['Port']): boolean {
  return ownerOf(port.external_ids) === host.instance && roleOf(port.external_ids) === 'bond'
}

/** The bond that has the tap as a member. */
export function bondOf(host: Host, tap: string): OvsRows['Port'] | undefined {
  const port = portOfInterface(host.ovsdb.replica, tap)
  return port !== undefined && isBond(host, port) ? port : undefined
}

/** The bonds that have any of the taps. */
export function bondsOf(host: Host, taps: readonly string[]): string[] {
  return [...new Set(taps.flatMap(tap => bondOf(host, tap)?.name ?? []))]
}

/** Throws `in-use` for a member of a bond. */
export function refuseBonded(host: Host, tap: string): void {
  const bond = bondOf(host, tap)
  if (bond !== undefined) throw inUse(tap, 'IN_BOND', `a member of the bond ${bond.name}`)
}

/** The port of a tap that is on this bridge, and in no bond. Errors: `not-found`, `in-use`. */
export function ownPort(host: Host, bridge: OvsRows['Bridge'], tap: PortName): OvsRows['Port'] {
  const kept = host.records.get(tap)
  if (kept === undefined || kept.record.defunct || kept.record.bridge !== bridge.name)
    throw tapNotOnBridge(tap, bridge.name)
  refuseBonded(host, tap)
  const { replica } = host.ovsdb
  const port = replica.find('Port', 'name', tap)
  if (port?.qos !== kept.uuid || bridgeOf(replica, port)?._uuid !== bridge._uuid) throw tapNotOnBridge(tap, bridge.name)
  return port
}

export function membersOf(replica: OvsReplica, bond: OvsRows['Port']): OvsRows['Interface'][] {
  return bond.interfaces.flatMap(uuid => replica.get('Interface', uuid) ?? [])
}

/** The record of a bond stands in the QoS row of its port. */
export function recordOfBond(replica: OvsReplica, bond: OvsRows['Port']): BondRecord {
  const row = bond.qos === undefined ? undefined : replica.get('QoS', bond.qos)
  return readBondRecord(row?.external_ids ?? new Map())
}

export function bondView(host: Host, bond: OvsRows['Port']): Bond {
  const { replica } = host.ovsdb
  const { vlan, qinqOuterVlan } = recordOfBond(replica, bond)
  const live = membersOf(replica, bond).filter(({ name }) => host.records.get(name)?.record.defunct === false)
  return {
    name: bond.name,
    bridge: bridgeOf(replica, bond)?.name ?? '',
    members: live.map(({ name }) => name).sort(),
    mode: readMode(bond.bond_mode),
    lacp: readLacp(bond.lacp),
    lacpFallback: bond.other_config.get(lacpFallbackKey) === 'true',
    vlan,
    qinqOuterVlan,
  }
}

function readMode(mode: string | undefined): BondMode {
  // The default of ovs-vswitchd, in case somebody has cleared the column.
  return mode === 'balance-slb' || mode === 'balance-tcp' ? mode : 'active-backup'
}

function readLacp(lacp: string | undefined): LacpMode {
  return lacp === 'active' || lacp === 'passive' ? lacp : 'off'
}
