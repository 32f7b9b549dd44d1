import type { Deletion, Device, Link, TapSpec, VethSpec } from '../kernel/index.js'
import type { Call } from './call.js'
import type { Host } from './host.js'
import { type PortName, peerNameOf } from './names.js'
import { deviceAlias } from './ownership.js'
import { isDeviceMade, type TapRecord } from './ownership-tap.js'
import type { PlacedRecord, Placement } from './placement.js'
import { BridgeError } from './problem.js'
import type { UndoStep } from './undo.js'

/**
 * Makes the devices that stand behind taps of these names, once nothing of theirs is on its way: all, or none once `undo` has
 * run, except of taps whose records stand by then: those are another call's business. `read` tells what they are to be by
 * then, or throws. A container's record comes back with the MAC that its peer has got. Host taps have none yet.
 */
export async function makeDevices(
  host: Host,
  names: readonly PortName[],
  read: () => readonly PlacedRecord[],
  call: Call,
  undo: (step: UndoStep) => void,
): Promise<Placement[]> {
  await host.committer.idle(names, call)
  // Who destroys one of them from here on finds its device.
  const wanted = read()
  const alias = deviceAlias(host.instance)
  const made = new Map<string, Device>()
  undo(() => {
    const unwanted = wanted.filter(({ name, id }) => host.records.get(name)?.record.id !== id)
    return host.removals.remove(unwanted.flatMap(({ name }) => made.get(name) ?? []))
  })
  const tuntaps = wanted.flatMap(record => tuntapSpec(record, alias) ?? [])
  const links = tuntaps.length === 0 ? [] : await host.kernel.createTaps(tuntaps, call.signal)
  for (const link of links) made.set(link.name, link)
  const placements: Placement[] = []
  for (const record of wanted) {
    const spec = vethSpec(record, alias)
    const veth = spec && (await host.kernel.createVeth(spec, call.signal))
    if (veth !== undefined) made.set(record.name, veth.link)
    placements.push({ record: { ...record, mac: veth?.peerMac ?? record.mac }, ifindex: made.get(record.name)?.index })
  }
  return placements
}

function tuntapSpec({ name, mtu, backing }: TapRecord, alias: string): TapSpec | undefined {
  if (backing.kind !== 'tuntap') return undefined
  const { multiQueue, ownerUid } = backing
  const optional = { ...(mtu !== undefined && { mtuBytes: mtu }), ...(ownerUid !== undefined && { ownerUid }) }
  return { name, alias, multiQueue, ...optional }
}

function vethSpec({ name, mtu, mac, backing }: TapRecord, alias: string): VethSpec | undefined {
  if (backing.kind !== 'container') return undefined
  const optional = { ...(mtu !== undefined && { mtuBytes: mtu }), ...(mac !== undefined && { mac }) }
  return { name, alias, netns: backing.netns, peerName: peerNameOf(backing.vethIndex), ...optional }
}

/** As {@link deleteDevices}. Errors: `device-refused` when one of them is left. */
export async function removeDevices(host: Host, taps: readonly TapRecord[], call: Call): Promise<void> {
  const [failed] = await deleteDevices(host, taps, call)
  if (failed !== undefined) throw deviceRefused(failed)
}

/**
 * Removes the devices that we made for these taps, and only those: by our mark on the device. Others lose what we set
 * on them. Answers with those that could not be removed.
 */
export async function deleteDevices(host: Host, taps: readonly TapRecord[], call: Call): Promise<Deletion['failed']> {
  const ids = new Map<string, string>(taps.map(({ name, id }) => [name, id]))
  // Once a record is gone, another call may have made a tap and a device of its name anew.
  const isStill = (name: string) => host.records.get(name)?.record.id === ids.get(name)
  for (const tap of taps) {
    if (tap.backing.kind === 'adopted' && isStill(tap.name)) await host.qos.release(tap, call.signal)
  }
  const names = taps.flatMap(({ name, backing }) => (isDeviceMade(backing) && !isBare(host, name) ? [name] : []))
  const alias = deviceAlias(host.instance)
  const links = (await linksNamed(host, names, call)).filter(link => link.alias === alias && isStill(link.name))
  const { failed } = await host.removals.remove(links)
  for (const { name } of taps) {
    const record = host.records.get(name)?.record
    const isGone = isStill(name) && failed.every(({ name: left }) => left !== name)
    if (isGone && record?.defunct) host.bare.add(record)
  }
  return failed
}

/** Whether the tap of this name is defunct, and has no device any more. False also when that is not known. */
export function isBare(host: Host, name: PortName): boolean {
  const record = host.records.get(name)?.record
  return record !== undefined && host.bare.has(record)
}

export function deviceRefused({ name, error }: Deletion['failed'][number]): BridgeError {
  const message = `the device ${name} could not be removed: ${error.errno} ${error.message}`.trimEnd()
  return new BridgeError({ kind: 'device-refused', reason: 'DEVICE_REFUSED', message })
}

/** More than this, and one listing of all devices costs less. */
const manyNames = 16

/** Those of the devices that are there. */
export async function linksNamed(host: Host, names: readonly string[], call: Call): Promise<Link[]> {
  if (names.length > manyNames) {
    const wanted = new Set(names)
    return (await host.kernel.listLinks(call.signal)).filter(link => wanted.has(link.name))
  }
  const links = await Promise.all(names.map(name => host.kernel.getLink(name, call.signal)))
  return links.filter(link => link !== undefined)
}
