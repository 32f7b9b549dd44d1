import type { Link, TapSpec as TapDevice } from '../kernel/index.js'
import type { NamedUuid } from '../ovsdb/index.js'
import type { Call } from './call.js'
import type { OvsTransaction, Part, Receipt } from './commit.js'
import type { Host } from './host.js'
import { holderOf, managedBridge, type Tap, tapOf } from './inventory.js'
import { type BridgeName, type MacAddress, type MtuBytes, type PortName, peerNameOf, type VlanId } from './names.js'
import {
  deviceAlias,
  interfaceMarks,
  portMarks,
  randomId,
  type TapBacking,
  type TapRecord,
  writeTapRecord,
} from './ownership.js'
import { invalid, nameTaken, type Violation } from './problem.js'
import { type Expected, realised } from './realise.js'
import { reap } from './reap.js'
import { removeTaps } from './remove-ports.js'
import { type UndoStep, undoingOnFailure } from './undo.js'

/** A tap that somebody asks for. */
export interface TapSpec {
  /** undefined: the default bridge. It must be managed. */
  readonly bridge: BridgeName | undefined
  /** undefined: the next free name of the daemon's format. */
  readonly name: PortName | undefined
  readonly vlan: VlanId
  /** The endpoint's. undefined: unknown, or for a container the kernel's choice. */
  readonly mac: MacAddress | undefined
  /** undefined: the kernel's default. */
  readonly mtu: MtuBytes | undefined
  readonly backing: Exclude<TapBacking, { kind: 'adopted' }>
}

interface Intent extends TapSpec {
  readonly bridge: BridgeName
  readonly name: PortName
  readonly id: string
}

/** A device that stands ready for its port. */
interface Backed {
  readonly intent: Intent
  /** undefined: Open vSwitch makes it with the port. */
  readonly link: Link | undefined
  readonly mac: MacAddress | undefined
}

/**
 * Makes taps in one transaction, all or none, and returns when each passes packets.
 *
 * Errors: `not-found` bridge or netns, `already-exists` name, `invalid` when two of the specs have one name,
 * `device-refused`, `not-realised`, those of a commit. Whatever it had done is then undone.
 */
export async function createTaps(host: Host, specs: readonly TapSpec[], call: Call): Promise<Tap[]> {
  const intents = await nameAll(host, specs, call)
  for (const intent of intents) refuse(host, intent)
  await clearDefunct(
    host,
    intents.map(intent => intent.name),
    call,
  )
  return await undoingOnFailure(host, call, async undo => {
    const backed = await makeDevices(host, intents, call, undo)
    undo(() => withdraw(host, intents))
    const receipt = await host.committer.commit(insertion(host, backed), call)
    const opened = await openHostDevices(host, receipt, backed, call)
    await realised(host, receipt, opened, call)
    return backed.map(({ intent, mac }) => tapOf(host, recordOf(intent, mac)))
  })
}

/** Gives a name to those that have none. */
async function nameAll(host: Host, specs: readonly TapSpec[], call: Call): Promise<Intent[]> {
  const given = new Set<string>()
  const violations: Violation[] = []
  for (const [index, { name }] of specs.entries()) {
    if (name === undefined) continue
    if (given.has(name))
      violations.push({ field: `taps[${index}].tap`, description: `is ${name}, as is that of another tap` })
    given.add(name)
  }
  if (violations.length > 0) throw invalid(violations)
  const intents: Intent[] = []
  for (const spec of specs) {
    const name = spec.name ?? (await nextName(host, given, call))
    intents.push({ ...spec, bridge: spec.bridge ?? host.defaultBridge, name, id: randomId() })
  }
  return intents
}

/** The next generated name that nobody has, neither in Open vSwitch nor among the kernel's devices. */
async function nextName(host: Host, given: ReadonlySet<string>, call: Call): Promise<PortName> {
  const isTaken = (name: string) =>
    given.has(name) || host.records.get(name) !== undefined || holderOf(host, name) !== undefined
  for (;;) {
    const name = host.tapNames.take(isTaken)
    if ((await host.kernel.getLink(name, call.signal)) === undefined) return name
  }
}

/** What can be seen beforehand to be in vain. */
function refuse(host: Host, intent: Intent): void {
  managedBridge(host, intent.bridge)
  const holder = holderOf(host, intent.name)
  if (holder !== undefined) throw nameTaken(intent.name, holder)
}

/** Defunct taps of these names go first, wholly: ovs-vswitchd must have dropped a port before its name comes again. */
async function clearDefunct(host: Host, names: readonly PortName[], call: Call): Promise<void> {
  const defunct = names.filter(name => host.records.get(name)?.record.defunct)
  if (defunct.length > 0) await reap(host, defunct, call)
}

async function makeDevices(
  host: Host,
  intents: readonly Intent[],
  call: Call,
  undo: (step: UndoStep) => void,
): Promise<Backed[]> {
  const alias = deviceAlias(host.instance)
  const tuntaps = intents.flatMap(intent =>
    intent.backing.kind === 'tuntap' ? [tuntapSpec(intent, intent.backing, alias)] : [],
  )
  const made = new Map<string, Omit<Backed, 'intent'>>()
  const keep = (link: Link, mac: MacAddress | undefined) => made.set(link.name, { link, mac })
  undo(() => host.removals.remove([...made.values()].flatMap(({ link }) => (link === undefined ? [] : [link]))))
  if (tuntaps.length > 0) for (const link of await host.kernel.createTaps(tuntaps, call.signal)) keep(link, undefined)
  for (const { name, backing, mtu, mac } of intents) {
    if (backing.kind !== 'container') continue
    const peerName = peerNameOf(backing.vethIndex)
    const spec = { name, alias, netns: backing.netns, peerName, ...(mtu && { mtuBytes: mtu }), ...(mac && { mac }) }
    const veth = await host.kernel.createVeth(spec, call.signal)
    keep(veth.link, veth.peerMac)
  }
  return intents.map(intent => ({
    intent,
    link: made.get(intent.name)?.link,
    mac: made.get(intent.name)?.mac ?? intent.mac,
  }))
}

function tuntapSpec(intent: Intent, backing: TapBacking & { kind: 'tuntap' }, alias: string): TapDevice {
  const { name, mtu } = intent
  const { multiQueue, ownerUid } = backing
  return {
    name,
    alias,
    multiQueue,
    ...(mtu !== undefined && { mtuBytes: mtu }),
    ...(ownerUid !== undefined && { ownerUid }),
  }
}

function recordOf({ name, id, bridge, vlan, mtu, backing }: Intent, mac: MacAddress | undefined): TapRecord {
  return { name, id, bridge, vlan, mac, mtu, backing, qinqOuterVlan: undefined, defunct: false }
}

/** Ports and records of taps whose devices stand ready: one `mutate` for each bridge, whatever it carries already. */
function insertion(host: Host, backed: readonly Backed[]): Part<void> {
  const bridges = [...new Set(backed.map(({ intent }) => intent.bridge))]
  return {
    owns: backed.map(({ intent }) => intent.name),
    needs: bridges,
    reconfigures: true,
    write: transaction => {
      for (const { intent } of backed) refuse(host, intent)
      for (const bridge of bridges) {
        const row = managedBridge(host, bridge)
        const ports = backed
          .filter(({ intent }) => intent.bridge === bridge)
          .map(tap => insertPort(host, transaction, tap))
        transaction.wait('Bridge', row._uuid, { name: row.name })
        transaction.mutate('Bridge', row._uuid, 'ports', 'insert', ports)
      }
      return () => undefined
    },
  }
}

function insertPort(host: Host, transaction: OvsTransaction, { intent, mac }: Backed): NamedUuid {
  const { name, vlan, backing, mtu } = intent
  const isHost = backing.kind === 'host'
  const record = transaction.insert('QoS', {
    type: 'linux-noop',
    external_ids: writeTapRecord(host.instance, recordOf(intent, mac)),
  })
  const iface = transaction.insert('Interface', {
    name,
    type: isHost ? 'internal' : '',
    external_ids: interfaceMarks(mac),
    ...(isHost && mtu !== undefined && { mtu_request: mtu }),
  })
  // Tag 0 too: without a tag the port would be a trunk and see every VLAN.
  return transaction.insert('Port', {
    name,
    interfaces: [iface],
    tag: vlan,
    qos: record,
    external_ids: portMarks(host.instance, 'tap'),
  })
}

/** Brings the devices up that Open vSwitch has made for host taps. Answers with what must be seen of every interface. */
async function openHostDevices(
  host: Host,
  receipt: Receipt<void>,
  backed: readonly Backed[],
  call: Call,
): Promise<Expected[]> {
  const expected: Expected[] = []
  for (const { intent, link } of backed) {
    if (intent.backing.kind !== 'host') {
      expected.push({ name: intent.name, ifindex: link?.index })
      continue
    }
    await host.committer.applied(receipt, call)
    const device = await host.kernel.getLink(intent.name, call.signal)
    if (device !== undefined) {
      const change = { up: true, promiscuous: true, alias: deviceAlias(host.instance) }
      await host.kernel.setLink(intent.name, change, call.signal)
    }
    expected.push({ name: intent.name, ifindex: device?.index })
  }
  return expected
}

/** Takes back the ports and records of a creation, as far as they came into being. */
async function withdraw(host: Host, intents: readonly Intent[]): Promise<void> {
  const ours = new Map(intents.map(intent => [intent.name as string, intent.id]))
  const part: Part<void> = {
    owns: intents.map(intent => intent.name),
    needs: [],
    reconfigures: true,
    undoes: true,
    write: (transaction, replica) => {
      const kept = intents
        .flatMap(({ name }) => host.records.get(name) ?? [])
        .filter(({ record }) => ours.get(record.name) === record.id)
      removeTaps(transaction, replica, kept)
      return () => undefined
    },
  }
  await host.committer.commit(part, { signal: host.lifetime, caller: 'undo' })
}
