import { isBornFor, type Link } from '../kernel/index.js'
import type { Call } from './call.js'
import { type CapturePorts, isCaptureDevice, removeLeftCapturePorts } from './capture-port.js'
import { linksNamed } from './device.js'
import type { Host } from './host.js'
import { restoreTaps } from './lost-devices.js'
import { removeLostRows } from './lost-rows.js'
import { restoreNetflows } from './netflow.js'
import { bridgeDeviceAlias, deviceAlias } from './ownership.js'
import type { TapRecord } from './ownership-tap.js'
import { openHostDevice } from './placement.js'
import { reconfigure } from './realise.js'
import { reapTaps } from './reap.js'
import { type Occasion, type Recovered, type Repair, repairs } from './recovered.js'
import { Sight } from './sight.js'

export type { Occasion } from './recovered.js'

/** What a comparison works on. */
export interface Remains {
  /** Those that are in use by captures of this run. */
  readonly capturePorts: CapturePorts
  /** Devices with our mark from before any call was served; none later, when a call may be making some. */
  readonly marked: readonly Link[]
}

/** The devices that bear our mark. Those that are there before any call is served are all of an earlier run's making. */
export async function markedDevices(host: Host, call: Call): Promise<Link[]> {
  return markedOf(host, await host.kernel.listLinks(call.signal))
}

function markedOf(host: Host, links: readonly Link[]): Link[] {
  const alias = deviceAlias(host.instance)
  const bridgeAlias = bridgeDeviceAlias(host.instance)
  const isOurs = (link: Link) => {
    if (link.kind === 'veth') return link.alias === alias || (link.alias === '' && isBornFor(alias, link))
    if (link.tun?.persistent !== true) return false
    return link.alias === alias || link.alias === bridgeAlias || isCaptureDevice(link.name)
  }
  return links.filter(isOurs)
}

/**
 * Finishes what was being destroyed, undoes what was being made, and makes anew what has been lost, by the functions that
 * the calls use. One kind of repair that fails, or has no time left, does not stop the others.
 */
export async function recover(host: Host, occasion: Occasion, remains: Remains, call: Call): Promise<Recovered> {
  const repaired = new Map<Repair, readonly string[]>()
  const failed: Repair[] = []
  const sight = new Sight(host, call)
  for (const repair of repairs) {
    try {
      const names = await put[repair](host, { ...remains, sight }, call)
      if (names.length > 0) repaired.set(repair, names)
    } catch (error) {
      failed.push(repair)
      if (!host.lifetime.aborted) host.notice('warn', 'could not put everything right', { repair, error })
    }
  }
  const recovered: Recovered = { occasion, atMs: Date.now(), repaired, failed }
  host.recoveries.unshift(recovered)
  host.recoveries.splice(keptCount)
  return recovered
}

/** Recoveries that are told of. */
const keptCount = 10

interface Seen extends Remains {
  readonly sight: Sight
}

type Step = (host: Host, on: Seen, call: Call) => Promise<readonly string[]>

/** In this order: NetFlow needs no answer of ovs-vswitchd, and flows are being told all the while; QoS needs the devices. */
const put: Readonly<Record<Repair, Step>> = {
  netflow: (host, _on, call) => restoreNetflows(host, call),
  orphan_device: removeOrphans,
  defunct_tap: (host, _on, call) => reapTaps(host, call),
  lost_row: (host, _on, call) => removeLostRows(host, call),
  tap_device: (host, { sight }, call) => restoreTaps(host, sight, call),
  host_tap: (host, _on, call) => reopenHostTaps(host, call),
  capture_port: (host, { capturePorts }, call) => removeLeftCapturePorts(host, capturePorts, call),
  tap_qos: (host, _on, call) => host.qos.reconcile(call),
}

/**
 * Removes devices that nobody has: made just before a crash, or left by an ovs-vswitchd that was killed before it heard that
 * their ports are gone; the userspace datapath's are persistent.
 */
async function removeOrphans(
  host: Host,
  { marked, capturePorts, sight }: Seen,
  call: Call,
): Promise<readonly string[]> {
  const isOrphan = ({ name }: Link) =>
    !hasDevice(host.records.get(name)?.record) &&
    host.ovsdb.replica.find('Interface', 'name', name) === undefined &&
    !capturePorts.has(name)
  const strays = markedOf(host, await sight.links()).filter(link => link.tun !== undefined && isOrphan(link))
  // A call that had made its device by then has sent its row before this, and keeps it.
  if (strays.length > 0) await reconfigure(host, call)
  const { deleted } = await host.removals.remove([...marked, ...strays].filter(isOrphan))
  if (deleted.length > 0) sight.isOver()
  return deleted
}

/** Whether a tap is to have a device now: that of a host tap is there only with its port. */
function hasDevice(tap: TapRecord | undefined): boolean {
  if (tap === undefined || tap.backing.kind !== 'host') return tap !== undefined
  return tap.bridge !== undefined && !tap.defunct
}

/**
 * Brings up the devices of host taps that are down: an ovs-vswitchd that starts makes them anew.
 * Answers with the names of those.
 */
async function reopenHostTaps(host: Host, call: Call): Promise<string[]> {
  const taps = [...host.records.all()].flatMap(({ record }) =>
    record.backing.kind === 'host' && record.bridge !== undefined && !record.defunct ? [record] : [],
  )
  const links = await linksNamed(
    host,
    taps.map(tap => tap.name),
    call,
  )
  const down = new Set(links.filter(link => !link.up || !link.promiscuous).map(link => link.name))
  const reopened = taps.filter(tap => down.has(tap.name))
  for (const tap of reopened) await openHostDevice(host, tap, call)
  return reopened.map(tap => tap.name)
}
