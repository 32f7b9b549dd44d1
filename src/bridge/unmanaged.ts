import type { Link } from '../kernel/index.js'
import { deleteBridgeRow } from './bridge.js'
import type { Call } from './call.js'
import type { Part } from './commit.js'
import { deviceRefused, linksNamed } from './device.js'
import type { Host } from './host.js'
import type { BridgeName, PortName } from './names.js'
import { type OvsRows, portOfInterface, portsOf } from './ovs.js'
import { aliasOwner, ownerOf, roleOf } from './ownership.js'
import { bridgeNotFound, deviceNotFound, notOwned } from './problem.js'
import { removePorts } from './remove-ports.js'
import { clearDefunct } from './tap.js'

/**
 * Deletes a tuntap or veth device that we do not manage, and its port if it has one: for cleaning up after somebody's crash,
 * or when somebody has deleted the record of a tap of ours.
 *
 * Nothing is recorded of what is not ours: a crash may leave the device without its port, for the call to be repeated.
 *
 * Errors: `not-found` when there is neither device nor port; `not-owned` for what this or another instance manages, for a
 * bridge, and for a device that is more than a tap; `device-refused`.
 */
export async function destroyUnmanagedTap(host: Host, name: PortName, call: Call): Promise<void> {
  // A destroyed tap is managed by nobody, and the device that was handed over is there still.
  await clearDefunct(host, [name], call)
  const [link] = await linksNamed(host, [name], call)
  refuseManaged(host, name)
  const port = host.ovsdb.replica.find('Port', 'name', name)
  if (link === undefined && port === undefined) throw deviceNotFound(name)
  if (link !== undefined && !isDisposable(link))
    throw notOwned(name, `is a device of kind ${link.kind || 'hardware'}, not a tap`)
  const maker = link && aliasOwner(link.alias)
  if (maker !== undefined && !isOrphan(host, port)) throw notOwned(name, `is a device that the instance ${maker} made`)
  await host.committer.commitApplied(removal(host, name, port !== undefined), call)
  // The device may have been there before the database told us whose it is; by now it has.
  refuseManaged(host, name)
  // The device of an internal port has gone with it.
  if (link === undefined || link.kind === 'openvswitch') return
  await removeLinks(host, [link])
}

function isDisposable(link: Link): boolean {
  return link.tun !== undefined || link.kind === 'veth' || link.kind === 'openvswitch'
}

function refuseManaged(host: Host, name: PortName): void {
  if (host.records.get(name) !== undefined) throw notOwned(name, 'is a tap that this service manages: use DestroyTap')
  const { replica } = host.ovsdb
  if (replica.find('Bridge', 'name', name) !== undefined) throw notOwned(name, 'is a bridge')
  const port = replica.find('Port', 'name', name)
  const owner = port && ownerOf(port.external_ids)
  if (owner !== undefined && !isOrphan(host, port)) throw notOwned(name, `is a port of the instance ${owner}`)
}

/** The port of a tap of ours whose record somebody has deleted: no tap to any call, and nothing else would remove it. */
function isOrphan(host: Host, port: OvsRows['Port'] | undefined): boolean {
  if (port === undefined || host.records.get(port.name) !== undefined) return false
  return ownerOf(port.external_ids) === host.instance && roleOf(port.external_ids) === 'tap'
}

function removal(host: Host, name: PortName, reconfigures: boolean): Part<void> {
  return {
    owns: [name],
    needs: [],
    reconfigures,
    write: (transaction, replica) => {
      refuseManaged(host, name)
      const port = replica.find('Port', 'name', name)
      if (port !== undefined) removePorts(transaction, replica, [port])
      return () => undefined
    },
  }
}

/**
 * Deletes a bridge that neither this nor another instance manages, and its ports; their devices go as far as Open vSwitch
 * had made them. For cleaning up after somebody's crash.
 *
 * Errors: `not-found` when Open vSwitch has no such bridge; `not-owned` for one that is managed, or that carries a port of
 * an instance; `device-refused`.
 */
export async function destroyUnmanagedBridge(host: Host, name: BridgeName, call: Call): Promise<void> {
  const internal = await host.committer.commitApplied(bridgeRemoval(host, name), call)
  await removeLeft(host, internal, call)
}

/** An ovs-vswitchd that was killed before it removed them has left them. */
async function removeLeft(host: Host, names: readonly string[], call: Call): Promise<void> {
  const links = await linksNamed(host, names, call)
  const left = links.filter(({ name, tun, alias }) => {
    const isAnew = portOfInterface(host.ovsdb.replica, name) !== undefined
    return tun?.persistent === true && alias === '' && !isAnew
  })
  await removeLinks(host, left)
}

async function removeLinks(host: Host, links: readonly Link[]): Promise<void> {
  const { failed } = await host.removals.remove(links)
  const [refused] = failed
  if (refused !== undefined) throw deviceRefused(refused)
}

/**
 * Tells the internal interfaces of a userspace datapath, whose devices are persistent. The kernel's leaves a tap alone that
 * has the name of one.
 */
function bridgeRemoval(host: Host, name: BridgeName): Part<readonly string[]> {
  return {
    owns: [name],
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      const row = replica.find('Bridge', 'name', name)
      if (row === undefined) throw bridgeNotFound(name)
      const owner = ownerOf(row.external_ids)
      if (owner === host.instance) throw notOwned(name, 'is a bridge that this service manages: use DestroyBridge')
      if (owner !== undefined) throw notOwned(name, `is managed by the instance ${owner}`)
      const ports = [...portsOf(replica, row)]
      for (const port of ports) {
        const portOwner = ownerOf(port.external_ids)
        if (portOwner !== undefined) throw notOwned(name, `carries ${port.name}, a port of the instance ${portOwner}`)
      }
      transaction.wait('Bridge', row._uuid, { external_ids: row.external_ids, ports: row.ports })
      deleteBridgeRow(transaction, replica, row)
      if (row.datapath_type !== 'netdev') return () => []
      const interfaces = ports.flatMap(port => port.interfaces).flatMap(uuid => replica.get('Interface', uuid) ?? [])
      const internal = interfaces.filter(({ type }) => type === 'internal').map(({ name: device }) => device)
      return () => internal
    },
  }
}
