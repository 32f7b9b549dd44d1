import type { Call } from './call.js'
import type { Host } from './host.js'
import { type Bridge, getBridge, managedBridge, refuseTaken } from './inventory.js'
import type { BridgeName, PortName, VlanId } from './names.js'
import { deviceAlias } from './ownership.js'
import { deviceNotFound, nameTaken, trunkNotFound } from './problem.js'
import { clearDefunct } from './tap.js'
import { addUplink, removeUplink } from './uplink.js'

/** A device that carries VLANs of a bridge, tagged. */
export interface Trunk {
  readonly interface: PortName
  readonly bridge: BridgeName
  /** Each once; 0 stands for untagged frames. Empty: all. ovs-vswitchd.conf.db(5), Port.trunks. */
  readonly vlans: readonly VlanId[]
}

/**
 * Puts a device that somebody else made on a bridge as a trunk, and returns when it passes packets. Its link state and
 * addresses stay as they are.
 *
 * Errors: `not-found` bridge or device; `already-exists` when it is a port, a bridge or a tap of ours; `not-realised`,
 * those of a commit.
 */
export async function addTrunk(
  host: Host,
  spec: Omit<Trunk, 'bridge'> & { readonly bridge: BridgeName | undefined },
  call: Call,
): Promise<Trunk> {
  const { interface: name, bridge = host.defaultBridge, vlans } = spec
  managedBridge(host, bridge)
  await clearDefunct(host, [name], call)
  const link = await host.kernel.getLink(name, call.signal)
  refuseTaken(host, name)
  if (link === undefined) throw deviceNotFound(name)
  // Another call has just made it, and goes on to put it on a bridge.
  if (link.alias === deviceAlias(host.instance)) throw nameTaken(name, 'a tap')
  const trunks = [...vlans].sort((a, b) => a - b)
  const uplink = {
    name,
    role: 'trunk',
    bridge,
    port: { trunks },
    interface: { type: '' },
    ifindex: link.index,
  } as const
  await addUplink(host, uplink, { claims: [], refuse: () => undefined }, call)
  return { interface: name, bridge, vlans: trunks }
}

/** Takes a trunk off its bridge; the device stays. Errors: `not-found` bridge or trunk, those of a commit. */
export async function removeTrunk(
  host: Host,
  name: PortName,
  bridge: BridgeName = host.defaultBridge,
  call: Call,
): Promise<Bridge> {
  await removeUplink(host, { name, role: 'trunk', bridge }, () => trunkNotFound(name, bridge), call)
  return getBridge(host, bridge)
}
