import { bondOf } from './bond-port.js'
import type { Call } from './call.js'
import { linksNamed, makeDevices } from './device.js'
import { hasWrongVlans } from './drift.js'
import type { Host } from './host.js'
import { mirrorsAt } from './mirror.js'
import { moveTap } from './move.js'
import { portOfInterface } from './ovs.js'
import { isDeviceMade, type TapRecord } from './ownership-tap.js'
import { openHostDevice } from './placement.js'
import { reconfigure } from './realise.js'
import type { Attempt } from './recovered.js'
import type { Sight } from './sight.js'
import { recordOf } from './tap-changes.js'
import { undoingOnFailure } from './undo.js'

/**
 * Makes devices and ports of taps anew that their records tell of and that are gone, as after a start of the machine, which
 * keeps the database alone. A tap that cannot be, such as a container's without its namespace, is told and shows its
 * `Interface.error`; the others do not wait for it.
 */
export async function restoreTaps(host: Host, sight: Sight, call: Call): Promise<Attempt> {
  const taps = [...host.records.all()].flatMap(({ record }) => (record.defunct ? [] : [record]))
  const own = taps.filter(({ backing }) => isDeviceMade(backing))
  const there = new Set((await sight.links(call)).map(link => link.name))
  const bare = own.filter(tap => !there.has(tap.name) && takesDevice(host, tap))
  const made = await restoreEach(host, bare, call, tap => makeDevice(host, tap, call))
  // It hears of the devices by itself, and may have looked away.
  if (made.repaired.length > 0) await reconfigure(host, call)
  const lacking = taps.filter(tap => !bare.includes(tap) && lacksPort(host, tap, there))
  const placed = await restoreEach(host, lacking, call, ({ name }) =>
    moveTap(host, name, { bridge: undefined, vlan: undefined }, call),
  )
  if (made.repaired.length + placed.repaired.length > 0) sight.forget()
  const raised = await bringUp(host, own, sight, call)
  const attempts = [made, placed, raised]
  const all = (which: keyof Attempt) => [...new Set(attempts.flatMap(attempt => attempt[which]))].sort()
  return { repaired: all('repaired'), left: all('left') }
}

/** Whether a device alone is missing: there is no port to open it, or one that could not open it and tries again. */
function takesDevice(host: Host, { name, bridge }: TapRecord): boolean {
  const row = host.ovsdb.replica.find('Interface', 'name', name)
  if (bridge === undefined || (row !== undefined && (row.ofport ?? -1) <= 0)) return true
  return bondOf(host, name) !== undefined || mirrorsAt(host, [name]).length > 0
}

/** Whether the port of a tap is gone, is in another VLAN, or goes on with a device that is gone. */
function lacksPort(host: Host, tap: TapRecord, there: ReadonlySet<string>): boolean {
  const { name, bridge, backing } = tap
  if (bridge === undefined || host.ovsdb.replica.find('Bridge', 'name', bridge) === undefined) return false
  const port = portOfInterface(host.ovsdb.replica, name)
  if (port === undefined || hasWrongVlans(host, tap, port)) return true
  return isDeviceMade(backing) && !there.has(name)
}

async function makeDevice(host: Host, { name }: TapRecord, call: Call): Promise<void> {
  const read = () => {
    const record = recordOf(host, name)
    return [{ ...record, bridge: record.bridge ?? host.defaultBridge }]
  }
  await undoingOnFailure(host, call, undo => makeDevices(host, [name], read, call, undo))
  // Of a detached tap no row tells the upkeep.
  await host.qos.exclusive(name, call.signal, () => host.qos.settle(name))
}

/**
 * Brings up the devices that are down. A run may have ended between their birth and that, somebody may have taken them down, and
 * so does an ovs-vswitchd that writes back the flags it had seen before the device was up.
 */
async function bringUp(host: Host, taps: readonly TapRecord[], sight: Sight, call: Call): Promise<Attempt> {
  const down = new Set((await sight.links(call)).filter(link => !link.up).map(link => link.name))
  return await restoreEach(
    host,
    taps.filter(tap => down.has(tap.name)),
    call,
    ({ name }) => host.kernel.setLink(name, { up: true, promiscuous: true }, call.signal),
  )
}

/** Brings up the devices of host taps that are down: an ovs-vswitchd that starts makes them anew. */
export async function reopenHostTaps(host: Host, call: Call): Promise<Attempt> {
  const taps = [...host.records.all()].flatMap(({ record }) =>
    record.backing.kind === 'host' && record.bridge !== undefined && !record.defunct ? [record] : [],
  )
  const links = await linksNamed(
    host,
    taps.map(tap => tap.name),
    call,
  )
  const down = new Set(links.filter(link => !link.up || !link.promiscuous).map(link => link.name))
  return await restoreEach(
    host,
    taps.filter(tap => down.has(tap.name)),
    call,
    tap => openHostDevice(host, tap, call),
  )
}

/** Restores each on its own; one that fails is left, unless another call has destroyed it meanwhile. */
async function restoreEach(
  host: Host,
  taps: readonly TapRecord[],
  call: Call,
  restore: (tap: TapRecord) => Promise<unknown>,
): Promise<Attempt> {
  const attempts = await Promise.allSettled(taps.map(restore))
  call.signal.throwIfAborted()
  const repaired: string[] = []
  const left: string[] = []
  const errors: unknown[] = []
  for (const [i, { name }] of taps.entries()) {
    const attempt = attempts[i]
    if (attempt?.status === 'fulfilled') repaired.push(name)
    else if (host.records.get(name)?.record.defunct === false) {
      left.push(name)
      errors.push(attempt?.reason)
    }
  }
  // After a start of the machine it may be a thousand of them, each time.
  const told = { taps: left.slice(0, 10), count: left.length, error: errors[0] }
  if (left.length > 0) host.notice('warn', 'taps could not be made anew; trying again', told)
  return { repaired, left }
}
