import { isBornFor, type Link } from '../kernel/index.js'
import { abortScope } from '../lib/abort.js'
import { restoreBonds } from './bond.js'
import { markBridgeDevices } from './bridge-device.js'
import type { Call } from './call.js'
import { type CapturePorts, isCaptureDevice, removeLeftCapturePorts } from './capture-port.js'
import type { Host } from './host.js'
import { reopenHostTaps, restoreTaps } from './lost-devices.js'
import { removeLostRows } from './lost-rows.js'
import { restoreNetflows } from './netflow.js'
import { bridgeDeviceAlias, deviceAlias } from './ownership.js'
import type { TapRecord } from './ownership-tap.js'
import { reconfigure } from './realise.js'
import { reapTaps } from './reap.js'
import type { Attempt, Occasion, Recovered, Repair } from './recovered.js'
import { reopenOwn } from './reopen.js'
import { Sight } from './sight.js'

/** What a comparison works on. */
export interface Remains {
  /** Those that are in use by captures of this run. */
  readonly capturePorts: CapturePorts
  /** Devices with our mark from before any call was served, until they have been gone through. */
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
    return link.alias === alias || link.alias === bridgeAlias || isCaptureDevice(host.instance, link.name)
  }
  return links.filter(isOurs)
}

/**
 * Finishes what was being destroyed, undoes what was being made, and makes anew what has been lost, by the functions that
 * the calls use: `kinds` of it. One kind that fails, or takes more than `withinMs`, does not stop the others; what could
 * not be put right is outstanding.
 */
export async function recover(
  host: Host,
  occasion: Occasion,
  kinds: readonly Repair[],
  remains: Remains,
  withinMs: number,
): Promise<Recovered> {
  const repaired = new Map<Repair, readonly string[]>()
  const failed: Repair[] = []
  const sight = new Sight(host)
  for (const repair of kinds) {
    const attempt = await attemptOne(host, repair, { ...remains, occasion, sight }, withinMs)
    if (attempt === undefined) sight.forget()
    if (attempt === undefined || attempt.left.length > 0) {
      failed.push(repair)
      host.outstanding.set(repair, attempt?.left ?? [])
    } else host.outstanding.delete(repair)
    if (attempt !== undefined && attempt.repaired.length > 0) repaired.set(repair, attempt.repaired)
  }
  const recovered: Recovered = { occasion, atMs: Date.now(), repaired, failed }
  // What is tried again in vain, minute after minute, would drive out all else.
  if (occasion === 'retry' && repaired.size === 0 && failed.length === kinds.length) return recovered
  host.recoveries.unshift(recovered)
  host.recoveries.splice(keptCount)
  return recovered
}

/** undefined when it was not gone through to its end. */
async function attemptOne(host: Host, repair: Repair, on: Seen, withinMs: number): Promise<Attempt | undefined> {
  using scope = abortScope({ deadline: Date.now() + withinMs, parents: [host.lifetime] })
  try {
    return await steps[repair](host, on, { signal: scope.signal, caller: 'recover' })
  } catch (error) {
    if (!host.lifetime.aborted) host.notice('warn', 'could not put everything right', { repair, error })
    return undefined
  }
}

/** Recoveries that are told of. */
const keptCount = 10

interface Seen extends Remains {
  readonly occasion: Occasion
  readonly sight: Sight
}

type Step = (host: Host, on: Seen, call: Call) => Promise<Attempt>

/**
 * In the order of `repairs`: NetFlow needs no answer of ovs-vswitchd, and flows are being told all the while; QoS needs
 * the devices.
 */
const steps: Readonly<Record<Repair, Step>> = {
  netflow: (host, _on, call) => whole(restoreNetflows(host, call)),
  orphan_device: removeOrphans,
  defunct_tap: (host, _on, call) => whole(reapTaps(host, call)),
  lost_row: (host, _on, call) => whole(removeLostRows(host, call)),
  tap_device: (host, { sight }, call) => restoreTaps(host, sight, call),
  bond_vlan: (host, _on, call) => whole(restoreBonds(host, call)),
  half_open_port: afterRestart(reopenPorts),
  host_tap: afterRestart(reopenHostTaps),
  bridge_device: afterRestart((host, call) => whole(markBridgeDevices(host, call))),
  capture_port: (host, { capturePorts }, call) => whole(removeLeftCapturePorts(host, capturePorts, call)),
  tap_qos: (host, _on, call) => whole(host.qos.reconcile(call)),
}

/** An ovs-vswitchd that was just started may answer before it has made the devices of internal ports. */
function afterRestart(step: (host: Host, call: Call) => Promise<Attempt>): Step {
  return async (host, { occasion }, call) => {
    if (occasion === 'vswitchd_restart') await reconfigure(host, call)
    return await step(host, call)
  }
}

async function reopenPorts(host: Host, call: Call): Promise<Attempt> {
  const { repaired, left } = await reopenOwn(host, call)
  if (repaired.length === 0) return { repaired, left }
  const raised = await reopenHostTaps(host, call)
  return { repaired, left: [...left, ...raised.left] }
}

/** Of what either throws or leaves nothing. */
async function whole(repaired: Promise<readonly string[]>): Promise<Attempt> {
  return { repaired: await repaired, left: [] }
}

/**
 * Removes devices that nobody has: made just before a crash, of taps that a database which was put back does not have, or left
 * by an ovs-vswitchd that was killed before it heard that their ports are gone; the userspace datapath's are persistent.
 */
async function removeOrphans(host: Host, { marked, capturePorts, sight }: Seen, call: Call): Promise<Attempt> {
  // Until its record stands, a tap that a call is making has nothing else to tell it by.
  const inTheMaking: ReadonlySet<string> = host.inTheMaking
  const isOrphan = ({ name }: Link) =>
    !inTheMaking.has(name) &&
    !hasDevice(host.records.get(name)?.record) &&
    host.ovsdb.replica.find('Interface', 'name', name) === undefined &&
    !capturePorts.has(name)
  const strays = markedOf(host, await sight.links(call)).filter(isOrphan)
  // An ovs-vswitchd that has not heard yet that a port is gone lets go of its device first.
  if (strays.length > 0) await reconfigure(host, call)
  const { deleted, failed } = await host.removals.remove([...marked, ...strays].filter(isOrphan))
  if (deleted.length > 0) sight.forget()
  return { repaired: deleted, left: failed.map(({ name }) => name) }
}

/** Whether a tap is to have a device now: that of a host tap is there only with its port. */
function hasDevice(tap: TapRecord | undefined): boolean {
  if (tap === undefined || tap.backing.kind !== 'host') return tap !== undefined
  return tap.bridge !== undefined && !tap.defunct
}
