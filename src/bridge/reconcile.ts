import type { Link } from '../kernel/index.js'
import type { Call } from './call.js'
import { type CapturePorts, removeLeftCapturePorts } from './capture-port.js'
import { linksNamed } from './device.js'
import type { Host } from './host.js'
import { restoreNetflows } from './netflow.js'
import { deviceAlias } from './ownership.js'
import { openHostDevice } from './placement.js'
import { reapTaps } from './reap.js'

/** What a daemon that was killed had left. */
export interface Recovered {
  /** Defunct taps whose removal was finished. */
  readonly reaped: readonly string[]
  /** Devices with our mark that no tap had: made just before a crash. */
  readonly orphans: readonly string[]
  /** Host taps whose devices ovs-vswitchd had made anew, down. */
  readonly opened: readonly string[]
  /** Taps whose QoS was not what their records say. */
  readonly requeued: readonly string[]
  /** Bridges whose NetFlow is collected again. */
  readonly netflows: readonly string[]
  /** Ports by which bridges were captured. */
  readonly uncaptured: readonly string[]
}

/** The devices that bear our mark. Those that are there before any call is served are all of an earlier run's making. */
export async function markedDevices(host: Host, call: Call): Promise<Link[]> {
  const alias = deviceAlias(host.instance)
  const links = await host.kernel.listLinks(call.signal)
  return links.filter(link => link.alias === alias && (link.tun?.persistent === true || link.kind === 'veth'))
}

/** Finishes what was being destroyed and undoes what was being made when the last run of this instance ended. */
export async function recover(
  host: Host,
  ports: CapturePorts,
  marked: readonly Link[],
  call: Call,
): Promise<Recovered> {
  // First: it needs no answer of ovs-vswitchd, and flows are being told all the while.
  const netflows = await restoreNetflows(host, call)
  const reaped = await reapTaps(host, call)
  const { deleted } = await host.removals.remove(marked.filter(({ name }) => host.records.get(name) === undefined))
  const opened = await reopenHostTaps(host, call)
  const requeued = await host.qos.reconcile(call)
  const uncaptured = await removeLeftCapturePorts(host, ports, call)
  return { netflows, reaped, orphans: deleted, opened, requeued, uncaptured }
}

/**
 * Brings up the devices of host taps that are down: an ovs-vswitchd that starts makes them anew.
 * Answers with the names of those.
 */
export async function reopenHostTaps(host: Host, call: Call): Promise<string[]> {
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
