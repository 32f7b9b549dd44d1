import {
  type Bond,
  type BondMode,
  bondView,
  isBond,
  type LacpMode,
  lacpFallbackKey,
  membersOf,
  ownPort,
  recordOfBond,
} from './bond-port.js'
import type { Call } from './call.js'
import type { OvsTransaction, Part } from './commit.js'
import { linksNamed } from './device.js'
import { hasWrongBondVlans } from './drift.js'
import type { Host } from './host.js'
import { managedBridge, refuseTaken } from './inventory.js'
import { refuseMirrored } from './mirror-row.js'
import { type BridgeName, type PortName, parsePortName, type VlanId } from './names.js'
import { bridgeOf, type OvsReplica, type OvsRows } from './ovs.js'
import { type BondRecord, bondQinQMark, idOf, portMarks, randomId, writeBondRecord } from './ownership.js'
import { movePorts, portVlans } from './placement.js'
import { bondNotFound, deviceNotFound, invalid, type Violation } from './problem.js'
import { type Expected, realised } from './realise.js'
import { removeBonds } from './remove-ports.js'
import { clearDefunct, nextName } from './tap.js'
import { committing, type TakeBack, undoingOnFailure } from './undo.js'

/** A bond that somebody asks for. */
export interface BondSpec {
  readonly bridge: BridgeName
  /** undefined: the next free name of the daemon's format. */
  readonly name: PortName | undefined
  readonly members: readonly PortName[]
  readonly mode: BondMode
  readonly lacp: LacpMode
  /** Work as active-backup while the far side does not negotiate. */
  readonly lacpFallback: boolean
  /** VLAN it carries untagged; undefined: all, tagged. */
  readonly vlan: VlanId | undefined
}

type NamedBond = BondSpec & { readonly name: PortName; readonly record: BondRecord }

/**
 * Bonds taps of one bridge into one port. Their interfaces move from their own ports to the bond's in one transaction,
 * and the taps' records wait for the bond's end. All is checked before anything is touched.
 *
 * Errors: `invalid` for fewer than two members, one twice, an internal port, balance-tcp or the fallback without LACP;
 * `not-found` for a bridge, and a tap that is not on it or has lost its device; `in-use` for a tap in a bond or at an end
 * of a mirror; `already-exists` name; `not-realised`, those of a commit. What it had done is then undone.
 */
export async function addBond(host: Host, spec: BondSpec, call: Call): Promise<Bond> {
  const wrong = [...violations(host, spec)]
  if (wrong.length > 0) throw invalid(wrong)
  for (const tap of spec.members) memberPort(host, spec.bridge, tap)
  const links = await linksNamed(host, spec.members, call)
  const expected = spec.members.map((name): Expected => {
    const link = links.find(candidate => candidate.name === name)
    if (link === undefined) throw deviceNotFound(name)
    return { name, ifindex: link.index }
  })
  const name = spec.name ?? (await nextName(host, host.bondNames, new Set(), call))
  await clearEmpty(host, name, call)
  const record = { id: randomId(), vlan: spec.vlan, qinqOuterVlan: undefined }
  return await undoingOnFailure(host, call, async undo => {
    const part = bonding(host, { ...spec, name, record })
    const receipt = await committing(host, part, call, undo, withdrawal(host, name, record))
    await realised(host, receipt, expected, call)
    return bondView(host, bondOn(host, spec.bridge, name))
  })
}

function* violations(host: Host, { members, mode, lacp, lacpFallback }: BondSpec): Iterable<Violation> {
  if (members.length < 2) yield { field: 'members', description: `are ${members.length}; a bond has two or more` }
  for (const [index, tap] of members.entries()) {
    const field = `members[${index}]`
    if (members.indexOf(tap) < index) yield { field, description: `is ${tap}, as is another` }
    // Its device is made and removed with its port, and never loses its link.
    const type = host.ovsdb.replica.find('Interface', 'name', tap)?.type
    if (type === 'internal') yield { field, description: `is ${tap}, a device of Open vSwitch, which has no link` }
  }
  if (lacp !== 'off') return
  if (mode === 'balance-tcp') yield { field: 'lacp', description: 'is off, and BALANCE_TCP needs it' }
  if (lacpFallback) yield { field: 'lacp_fallback', description: 'is set, and lacp is off' }
}

/** The own port of a tap that can be bonded. */
function memberPort(host: Host, bridge: BridgeName, tap: PortName): OvsRows['Port'] {
  const port = ownPort(host, managedBridge(host, bridge), tap)
  refuseMirrored(host, tap, true)
  return port
}

/** A bond whose last member was destroyed goes with it, and its name is free. */
async function clearEmpty(host: Host, name: PortName, call: Call): Promise<void> {
  const port = findBond(host, name)
  const members = port === undefined ? [] : membersOf(host.ovsdb.replica, port)
  const records = members.flatMap(member => host.records.get(member.name)?.record ?? [])
  if (records.every(record => record.defunct)) {
    await clearDefunct(
      host,
      records.map(record => record.name),
      call,
    )
  }
  refuseTaken(host, name)
}

function bonding(host: Host, bond: NamedBond): Part<void> {
  return {
    owns: [bond.name, ...bond.members],
    needs: [bond.bridge],
    reconfigures: true,
    write: (transaction, replica) => {
      refuseTaken(host, bond.name)
      const ports = bond.members.map(tap => memberPort(host, bond.bridge, tap))
      insertBond(host, transaction, replica, bond, ports)
      return () => undefined
    },
  }
}

/** The members' interfaces move as they are; their ports, which nothing refers to any more, the database drops. */
function insertBond(
  host: Host,
  transaction: OvsTransaction,
  replica: OvsReplica,
  { name, bridge, mode, lacp, lacpFallback, record }: NamedBond,
  ports: readonly OvsRows['Port'][],
): void {
  const row = managedBridge(host, bridge)
  movePorts(
    transaction,
    row,
    'delete',
    ports.map(port => port._uuid),
  )
  const bond = transaction.insert('Port', {
    name,
    interfaces: ports.flatMap(port => port.interfaces).filter(uuid => replica.get('Interface', uuid) !== undefined),
    ...portVlans(record),
    bond_mode: mode,
    lacp,
    other_config: new Map(lacpFallback ? [[lacpFallbackKey, 'true']] : []),
    qos: transaction.insert('QoS', { type: 'linux-noop', external_ids: writeBondRecord(host.instance, record) }),
    external_ids: portMarks(host.instance, 'bond'),
  })
  movePorts(transaction, row, 'insert', [bond])
}

/** Takes back a bond that could not be realised, unless another of its name has come since. */
function withdrawal(host: Host, name: PortName, { id }: BondRecord): TakeBack {
  return (transaction, replica) => {
    const port = replica.find('Port', 'name', name)
    const row = port?.qos === undefined ? undefined : replica.get('QoS', port.qos)
    if (port !== undefined && row !== undefined && idOf(row.external_ids) === id)
      dissolve(host, transaction, replica, port)
  }
}

/** Gives the members ports of their own again, on their former VLANs, and takes the bond away. Defunct ones go with it. */
function dissolve(host: Host, transaction: OvsTransaction, replica: OvsReplica, bond: OvsRows['Port']): void {
  const ports = membersOf(replica, bond).flatMap(iface => {
    const kept = host.records.get(iface.name)
    if (kept === undefined || kept.record.defunct) return []
    const port = transaction.insert('Port', {
      name: iface.name,
      interfaces: [iface._uuid],
      ...portVlans(kept.record),
      qos: kept.uuid,
      external_ids: portMarks(host.instance, 'tap'),
    })
    return [port]
  })
  const bridge = bridgeOf(replica, bond)
  if (bridge !== undefined && ports.length > 0) movePorts(transaction, bridge, 'insert', ports)
  removeBonds(transaction, replica, [bond])
}

/** The bond of ours that has this name. */
export function findBond(host: Host, name: PortName): OvsRows['Port'] | undefined {
  const port = host.ovsdb.replica.find('Port', 'name', name)
  return port !== undefined && isBond(host, port) ? port : undefined
}

/** A bond of ours on a bridge. Errors: `not-found` for the bridge and the bond. */
function bondOn(host: Host, bridge: BridgeName, name: PortName): OvsRows['Port'] {
  const row = managedBridge(host, bridge)
  const port = findBond(host, name)
  if (port === undefined || bridgeOf(host.ovsdb.replica, port)?._uuid !== row._uuid) throw bondNotFound(name)
  return port
}

/**
 * Takes a bond apart: in one transaction its members are ports on their former VLANs again. Answers with the bond as it
 * was. Errors: `not-found` for the bridge and the bond; those of a commit.
 */
export async function deleteBond(host: Host, bridge: BridgeName, name: PortName, call: Call): Promise<Bond> {
  const members = membersOf(host.ovsdb.replica, bondOn(host, bridge, name)).map(member => member.name)
  const part: Part<Bond> = {
    owns: [name, ...members],
    needs: [bridge],
    reconfigures: true,
    write: (transaction, replica) => {
      const port = bondOn(host, bridge, name)
      const bond = bondView(host, port)
      dissolve(host, transaction, replica, port)
      return () => bond
    },
  }
  return await host.committer.commitApplied(part, call)
}

/** Puts bonds back on the VLANs of their records that somebody has put on others; their names. */
export async function restoreBonds(host: Host, call: Call): Promise<string[]> {
  const { replica } = host.ovsdb
  const wrong = [...replica.rows('Port')].filter(port => isBond(host, port) && hasWrongBondVlans(replica, port))
  for (const port of wrong) {
    const name = parsePortName(port.name)
    if (name.ok) await setBondQinQ(host, name.value, recordOfBond(replica, port).qinqOuterVlan, call)
  }
  return wrong.map(port => port.name)
}

/**
 * Makes a bond a dot1q-tunnel port with this outer VLAN (ovs-vswitchd.conf.db(5), Port.vlan_mode), or with undefined what
 * it was before. Errors: `not-found`, those of a commit.
 */
export async function setBondQinQ(
  host: Host,
  name: PortName,
  outerVlan: VlanId | undefined,
  call: Call,
): Promise<Bond> {
  const part: Part<Bond> = {
    owns: [name],
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      const port = findBond(host, name)
      if (port === undefined) throw bondNotFound(name)
      const record = { ...recordOfBond(replica, port), qinqOuterVlan: outerVlan }
      transaction.update('Port', port._uuid, portVlans(record))
      if (port.qos !== undefined) transaction.setKeys('QoS', port.qos, 'external_ids', bondQinQMark(outerVlan))
      const bond = bondView(host, port)
      return () => bond
    },
  }
  return { ...(await host.committer.commitApplied(part, call)), qinqOuterVlan: outerVlan }
}
