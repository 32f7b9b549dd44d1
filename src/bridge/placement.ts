import { KernelError } from '../kernel/index.js'
import type { NamedUuid, Uuid } from '../ovsdb/index.js'
import type { Call } from './call.js'
import type { OvsTransaction, Part, Receipt } from './commit.js'
import type { Host } from './host.js'
import { managedBridge, type Tap, tapOf } from './inventory.js'
import type { BridgeName } from './names.js'
import { bridgeOf, type OvsReplica, type OvsRows } from './ovs.js'
import { type BondRecord, deviceAlias, interfaceMarks, portMarks } from './ownership.js'
import { type TapRecord, tapRecordMarks, writeTapRecord } from './ownership-tap.js'
import { policingColumns } from './policing.js'
import { type Expected, realised } from './realise.js'
import { isSuperseded } from './tap-changes.js'

/** A tap's record that says on which bridge it is to be. */
export type PlacedRecord = TapRecord & { readonly bridge: BridgeName }

/** A tap that is to be on a bridge, with its device at hand. */
export interface Placement {
  readonly record: PlacedRecord
  /** The kernel's index of the device; undefined for a host tap, whose device Open vSwitch makes with the port. */
  readonly ifindex: number | undefined
}

/** Columns that say how a port treats VLANs. */
export type PortVlans = Pick<OvsRows['Port'], 'tag' | 'vlan_mode' | 'trunks'>

/** Of a tap or bond. Tag 0 too: a port without a tag is a trunk and sees every VLAN. */
export function portVlans({ vlan, qinqOuterVlan }: Pick<TapRecord | BondRecord, 'vlan' | 'qinqOuterVlan'>): PortVlans {
  if (qinqOuterVlan !== undefined) return { tag: qinqOuterVlan, vlan_mode: 'dot1q-tunnel', trunks: [] }
  return { tag: vlan, vlan_mode: undefined, trunks: [] }
}

/**
 * Puts ports and records of taps where their records say, in one transaction. A port that is there is changed or moved as
 * it stands, its interface with it; one that is not is inserted. Each bridge is touched by one `mutate`, whatever it
 * carries. `refuse` runs when the transaction is planned.
 */
export function placing(host: Host, placements: readonly Placement[], refuse: () => void): Part<void> {
  const bridgesNow = placements.flatMap(({ record }) => host.records.get(record.name)?.record.bridge ?? [])
  return {
    owns: placements.map(({ record }) => record.name),
    needs: [...new Set([...placements.map(({ record }) => record.bridge), ...bridgesNow])],
    reconfigures: true,
    write: (transaction, replica) => {
      refuse()
      writePlacements(
        host,
        transaction,
        replica,
        placements.map(({ record }) => record),
      )
      return () => undefined
    },
  }
}

/** Adds the operations of {@link placing}. */
export function writePlacements(
  host: Host,
  transaction: OvsTransaction,
  replica: OvsReplica,
  records: readonly PlacedRecord[],
): void {
  const arriving = new Map<string, (Uuid | NamedUuid)[]>()
  const leaving = new Map<string, { readonly from: OvsRows['Bridge']; readonly ports: Uuid[] }>()
  for (const record of records) {
    const port = replica.find('Port', 'name', record.name)
    const from = port && bridgeOf(replica, port)
    const row = keepRecord(host, transaction, record)
    if (port === undefined) listIn(arriving, record.bridge).push(insertPort(host, transaction, record, row))
    else updatePort(host, transaction, port, record, row)
    if (port === undefined || from === undefined || from.name === record.bridge) continue
    const left = leaving.get(from.name) ?? { from, ports: [] }
    left.ports.push(port._uuid)
    leaving.set(from.name, left)
    listIn(arriving, record.bridge).push(port._uuid)
  }
  for (const { from, ports } of leaving.values()) movePorts(transaction, from, 'delete', ports)
  for (const [name, ports] of arriving) movePorts(transaction, managedBridge(host, name), 'insert', ports)
}

function listIn<T>(lists: Map<string, T[]>, name: string): T[] {
  const list = lists.get(name) ?? []
  lists.set(name, list)
  return list
}

/** Changes which ports a bridge has, whatever else it carries. */
export function movePorts(
  transaction: OvsTransaction,
  bridge: OvsRows['Bridge'],
  mutator: 'insert' | 'delete',
  ports: readonly (Uuid | NamedUuid)[],
): void {
  transaction.mutate('Bridge', bridge._uuid, 'ports', mutator, ports)
}

/**
 * Writes the record into the tap's row, which is made where it has none. QoS and addresses of a tap that is there stay as
 * they are by now: they have operations of their own, which do not wait for those that place the tap.
 */
export function keepRecord(host: Host, transaction: OvsTransaction, record: TapRecord): Uuid | NamedUuid {
  const kept = host.records.get(record.name)
  if (kept === undefined) {
    return transaction.insert('QoS', { type: 'linux-noop', external_ids: writeTapRecord(host.instance, record) })
  }
  const { qos, policedKbps, counted, addresses } = latest(host, record)
  const now = { ...record, qos, policedKbps, counted, addresses }
  transaction.update('QoS', kept.uuid, { type: 'linux-noop' })
  transaction.setKeys('QoS', kept.uuid, 'external_ids', tapRecordMarks(host.instance, now))
  return kept.uuid
}

/** What the tap's record says by now. */
function latest(host: Host, record: TapRecord): TapRecord {
  const kept = host.records.get(record.name)?.record
  return kept?.id === record.id ? kept : record
}

function insertPort(host: Host, transaction: OvsTransaction, record: PlacedRecord, row: Uuid | NamedUuid): NamedUuid {
  const { name, backing, mac, mtu } = record
  const isHost = backing.kind === 'host'
  const iface = transaction.insert('Interface', {
    name,
    type: isHost ? 'internal' : '',
    external_ids: interfaceMarks(mac),
    ...(isHost && mtu !== undefined && { mtu_request: mtu }),
    ...policingColumns(latest(host, record).policedKbps),
  })
  return transaction.insert('Port', {
    name,
    interfaces: [iface],
    ...portVlans(record),
    qos: row,
    external_ids: portMarks(host.instance, 'tap'),
  })
}

function updatePort(
  host: Host,
  transaction: OvsTransaction,
  port: OvsRows['Port'],
  record: PlacedRecord,
  row: Uuid | NamedUuid,
): void {
  transaction.update('Port', port._uuid, { ...portVlans(record), qos: row })
  transaction.setKeys('Port', port._uuid, 'external_ids', portMarks(host.instance, 'tap'))
  const [iface] = port.interfaces
  if (iface !== undefined) transaction.setKeys('Interface', iface, 'external_ids', interfaceMarks(record.mac))
}

/**
 * Returns when the placements of a receipt pass packets, with the taps. The devices that Open vSwitch has made for host
 * taps are brought up on the way. A tap that another call has moved off its bridge or destroyed meanwhile is no failure
 * of this one, which came first: it is returned as it is by then.
 */
export async function awaitPlacements(
  host: Host,
  receipt: Receipt<void>,
  placements: readonly Placement[],
  call: Call,
): Promise<Tap[]> {
  const expected: Expected[] = []
  for (const { record, ifindex } of placements) {
    const superseded = () => isSuperseded(host, record)
    const { name } = record
    if (record.backing.kind !== 'host') expected.push({ name, ifindex, isSuperseded: superseded })
    else {
      await host.committer.applied(receipt, call)
      const look = () => unlessSuperseded(host, record, () => openHostDevice(host, record, call))
      expected.push({ name, ifindex: await look(), lookAgain: look, isRaised: true, isSuperseded: superseded })
    }
  }
  await realised(host, receipt, expected, call)
  for (const { record } of placements) {
    await unlessSuperseded(host, record, () => host.qos.ensure(record.name, call))
  }
  return placements.map(({ record }) => placedTap(host, record))
}

/** {@link awaitPlacements} of one. */
export async function awaitPlaced(host: Host, receipt: Receipt<void>, placement: Placement, call: Call): Promise<Tap> {
  const [tap] = await awaitPlacements(host, receipt, [placement], call)
  return tap ?? placedTap(host, placement.record)
}

/** What a step finds missing, of a tap that another call has taken away, is no error. */
async function unlessSuperseded<T>(host: Host, record: TapRecord, step: () => Promise<T>): Promise<T | undefined> {
  try {
    return await step()
  } catch (error) {
    if (isSuperseded(host, record)) return undefined
    throw error
  }
}

/** A tap as it was placed, or as another call has left it since. */
function placedTap(host: Host, placed: PlacedRecord): Tap {
  if (!isSuperseded(host, placed)) return tapOf(host, placed)
  const now = host.records.get(placed.name)?.record
  return tapOf(host, now?.id === placed.id ? now : { ...placed, defunct: true })
}

/**
 * Brings a host tap's device up. Its index; undefined when Open vSwitch has not made it, as the interface's error explains,
 * or takes it away meanwhile.
 */
export async function openHostDevice(host: Host, { name }: TapRecord, call: Call): Promise<number | undefined> {
  const device = await host.kernel.getLink(name, call.signal)
  if (device === undefined) return undefined
  try {
    await host.kernel.setLink(name, { up: true, promiscuous: true, alias: deviceAlias(host.instance) }, call.signal)
  } catch (error) {
    if (error instanceof KernelError && error.problem.kind === 'no-device') return undefined
    throw error
  }
  return device.index
}
