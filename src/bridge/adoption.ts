import type { Link } from '../kernel/index.js'
import type { Uuid } from '../ovsdb/index.js'
import type { Call } from './call.js'
import type { OvsTransaction } from './commit.js'
import { linksNamed } from './device.js'
import type { Host } from './host.js'
import type { Tap } from './inventory.js'
import { type BridgeName, type MacAddress, type PortName, untagged, type VlanId } from './names.js'
import { bridgeOf, type OvsReplica, type OvsRows } from './ovs.js'
import { aliasOwner, ownerOf, randomId } from './ownership.js'
import { awaitPlaced, movePorts, type PlacedRecord, placing } from './placement.js'
import { deviceNotFound, nameTaken, notOwned } from './problem.js'
import { noQos } from './qos-parse.js'
import { removeTaps } from './remove-ports.js'
import { isUntouched } from './tap-changes.js'
import { committing, undoingOnFailure } from './undo.js'

/**
 * Makes a tap of a device that somebody else made, and of the port that it may have.
 *
 * Errors: `not-found` device, `already-exists` for the name of a tap or a bridge, `not-owned` for what an instance has made and
 * for a port that is no single device, `not-realised`, those of a commit. What it had done is then undone.
 */
export async function adopt(
  host: Host,
  name: PortName,
  to: { readonly bridge: BridgeName; readonly vlan: VlanId | undefined; readonly mac: MacAddress | undefined },
  call: Call,
): Promise<Tap> {
  const [link] = await linksNamed(host, [name], call)
  if (link === undefined) throw deviceNotFound(name)
  const maker = aliasOwner(link.alias)
  // Without a record it is on its way in or out, by another call.
  if (maker !== undefined) throw notOwned(name, `is a device that the instance ${maker} made`)
  const record: PlacedRecord = {
    name,
    id: randomId(),
    bridge: to.bridge,
    vlan: to.vlan ?? untagged,
    mac: to.mac,
    mtu: undefined,
    // The device of an internal port comes and goes with its port, whoever made that.
    backing: { kind: isInternal(host, name) ? 'host' : 'adopted' },
    qinqOuterVlan: undefined,
    qos: noQos,
    policedKbps: 0,
    defunct: false,
    addresses: [],
  }
  const placement = { record, ifindex: record.backing.kind === 'host' ? undefined : link.index }
  let former: FormerPort | undefined
  const refuse = () => {
    if (host.records.get(name) !== undefined) throw nameTaken(name, 'a tap')
    former = formerPort(host, name)
  }
  refuse()
  return await undoingOnFailure(host, call, async undo => {
    if (record.backing.kind === 'host') undo(() => unmark(host, link))
    const receipt = await committing(host, placing(host, [placement], refuse), call, undo, (transaction, replica) =>
      giveBack(host, transaction, replica, record, former),
    )
    return await awaitPlaced(host, receipt, placement, call)
  })
}

function isInternal(host: Host, name: PortName): boolean {
  return host.ovsdb.replica.find('Interface', 'name', name)?.type === 'internal'
}

/** Leaves the device of an internal port as it was, unless it has been made anew. */
async function unmark(host: Host, { name, index, up, promiscuous, alias }: Link): Promise<void> {
  const now = await host.kernel.getLink(name, host.lifetime)
  if (now?.index === index) await host.kernel.setLink(name, { up, promiscuous, alias }, host.lifetime)
}

/** A port as somebody else had it. */
interface FormerPort {
  readonly port: OvsRows['Port']
  readonly bridge: OvsRows['Bridge']
  readonly interfaceIds: ReadonlyMap<string, string>
}

/** Interface types of which a port can be handed over: devices, not tunnels or patches. */
const deviceTypes = new Set(['', 'system', 'tap', 'internal'])

function formerPort(host: Host, name: PortName): FormerPort | undefined {
  const { replica } = host.ovsdb
  if (replica.find('Bridge', 'name', name) !== undefined) throw nameTaken(name, 'a bridge')
  const port = replica.find('Port', 'name', name)
  const bridge = port && bridgeOf(replica, port)
  if (port === undefined || bridge === undefined) {
    if (replica.find('Interface', 'name', name) === undefined) return undefined
    throw notOwned(name, 'is a member of a bond')
  }
  const owner = ownerOf(port.external_ids)
  if (owner !== undefined) throw notOwned(name, `is a port of the instance ${owner}`)
  const [only, ...others] = port.interfaces.map(uuid => replica.get('Interface', uuid))
  if (only === undefined || others.length > 0) throw notOwned(name, 'is a bond')
  if (!deviceTypes.has(only.type)) throw notOwned(name, `is a port of type ${only.type}, not a device`)
  return { port, bridge, interfaceIds: only.external_ids }
}

/** Leaves a device that could not be taken over as it was: without a port, or with the port that it had. */
function giveBack(
  host: Host,
  transaction: OvsTransaction,
  replica: OvsReplica,
  record: PlacedRecord,
  former: FormerPort | undefined,
): void {
  const kept = host.records.get(record.name)
  if (kept === undefined || !isUntouched(host, record)) return
  if (former === undefined) removeTaps(host, transaction, replica, [kept])
  else {
    restorePort(transaction, replica, former)
    transaction.delete('QoS', kept.uuid)
  }
}

function restorePort(
  transaction: OvsTransaction,
  replica: OvsReplica,
  { port, bridge, interfaceIds }: FormerPort,
): void {
  const { tag, vlan_mode, trunks, qos, external_ids } = port
  transaction.update('Port', port._uuid, { tag, vlan_mode, trunks, qos, external_ids })
  const [iface]: readonly Uuid[] = port.interfaces
  if (iface !== undefined) transaction.update('Interface', iface, { external_ids: interfaceIds })
  const now = replica.get('Port', port._uuid)
  const on = now && bridgeOf(replica, now)
  if (on === undefined || on._uuid === bridge._uuid) return
  movePorts(transaction, on, 'delete', [port._uuid])
  movePorts(transaction, bridge, 'insert', [port._uuid])
}
