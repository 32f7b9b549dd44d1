import type { Call } from './call.js'
import { makeDevices } from './device.js'
import type { Host } from './host.js'
import { holderOf, managedBridge, type Tap } from './inventory.js'
import type { NameSeries } from './name-series.js'
import type { BridgeName, MacAddress, MtuBytes, PortName, VlanId } from './names.js'
import { randomId } from './ownership.js'
import type { TapBacking } from './ownership-tap.js'
import { awaitPlacements, type PlacedRecord, type Placement, placing } from './placement.js'
import { invalid, nameTaken, type Violation } from './problem.js'
import { problemOf } from './problem-of.js'
import type { Qos } from './qos-parse.js'
import { reap } from './reap.js'
import { removeTaps } from './remove-ports.js'
import { isUntouched } from './tap-changes.js'
import { committing, type TakeBack, undoingOnFailure } from './undo.js'

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
  /** Towards the endpoint; a host tap has none. */
  readonly qos: Qos
}

/**
 * Makes taps in one transaction, all or none, and returns when each passes packets.
 *
 * Errors: `not-found` bridge or netns, `already-exists` name, `invalid` when two of the specs have one name,
 * `device-refused`, `not-realised`, those of a commit. Whatever it had done is then undone.
 */
export async function createTaps(host: Host, specs: readonly TapSpec[], call: Call): Promise<Tap[]> {
  const isGenerated = specs.some(spec => spec.name === undefined)
  for (let attempt = 1; ; attempt++) {
    try {
      return await createNamed(host, await nameAll(host, specs, call), call)
    } catch (error) {
      // Another program, or another instance with the same format, may take a name between our look and our device.
      if (!isGenerated || attempt === maxNameAttempts || problemOf(error)?.kind !== 'already-exists') throw error
    }
  }
}

const maxNameAttempts = 5

async function createNamed(host: Host, wanted: readonly PlacedRecord[], call: Call): Promise<Tap[]> {
  const refuse = () => {
    for (const record of wanted) refuseTaken(host, record)
  }
  refuse()
  const names = wanted.map(record => record.name)
  const release = claim(host, names)
  return await undoingOnFailure(host, call, async undo => {
    undo(async () => release())
    await clearDefunct(host, names, call)
    using place = await host.committer.join(names, call)
    // Much may have happened while it waited, and a device that is in vain costs ovs-vswitchd a walk.
    const read = () => {
      refuse()
      return wanted
    }
    const placements = await makeDevices(host, names, read, call, undo)
    const part = { ...placing(host, placements, refuse), place }
    const receipt = await committing(host, part, call, undo, withdrawal(host, placements))
    release()
    return await awaitPlacements(host, receipt, placements, call)
  })
}

/** Keeps others from making taps of these names, until what it returns is called: from then on their records do. */
function claim(host: Host, names: readonly PortName[]): () => void {
  const taken = names.find(name => host.inTheMaking.has(name))
  if (taken !== undefined) throw nameTaken(taken, 'a tap that another call is making')
  for (const name of names) host.inTheMaking.add(name)
  let isHeld = true
  return () => {
    if (isHeld) for (const name of names) host.inTheMaking.delete(name)
    isHeld = false
  }
}

/** Gives a name to those that have none. */
async function nameAll(host: Host, specs: readonly TapSpec[], call: Call): Promise<PlacedRecord[]> {
  const given = new Set<string>()
  const violations: Violation[] = []
  for (const [index, { name }] of specs.entries()) {
    if (name === undefined) continue
    if (given.has(name))
      violations.push({ field: `taps[${index}].tap`, description: `is ${name}, as is that of another tap` })
    given.add(name)
  }
  if (violations.length > 0) throw invalid(violations)
  const wanted: PlacedRecord[] = []
  for (const { bridge = host.defaultBridge, name, vlan, mac, mtu, backing, qos } of specs) {
    wanted.push({
      name: name ?? (await nextName(host, host.tapNames, given, call)),
      id: randomId(),
      bridge,
      vlan,
      mac,
      mtu,
      backing,
      qinqOuterVlan: undefined,
      qos,
      policedKbps: 0,
      defunct: false,
      addresses: [],
    })
  }
  return wanted
}

/** A name that is free, and that no other call gets. */
export async function reserveTapName(host: Host, call: Call): Promise<PortName> {
  return await nextName(host, host.tapNames, new Set(), call)
}

/** The next generated name that nobody has, neither in Open vSwitch nor among the kernel's devices. */
export async function nextName(
  host: Host,
  names: NameSeries,
  given: ReadonlySet<string>,
  call: Call,
): Promise<PortName> {
  const isTaken = (name: PortName) =>
    given.has(name) ||
    host.inTheMaking.has(name) ||
    host.records.get(name) !== undefined ||
    holderOf(host, name) !== undefined
  for (;;) {
    const name = names.take(isTaken)
    if ((await host.kernel.getLink(name, call.signal)) === undefined) return name
  }
}

/** What can be seen beforehand to be in vain. */
function refuseTaken(host: Host, { bridge, name }: PlacedRecord): void {
  managedBridge(host, bridge)
  const holder = holderOf(host, name)
  if (holder !== undefined) throw nameTaken(name, holder)
}

/** Defunct taps of these names go first, wholly: ovs-vswitchd must have dropped a port before its name comes again. */
export async function clearDefunct(host: Host, names: readonly PortName[], call: Call): Promise<void> {
  const defunct = names.filter(name => host.records.get(name)?.record.defunct)
  if (defunct.length > 0) await reap(host, defunct, call)
}

/** Takes back the ports and records of a creation, except what another call has put to use since. */
function withdrawal(host: Host, placements: readonly Placement[]): TakeBack {
  return (transaction, replica) => {
    const untouched = placements.filter(({ record }) => isUntouched(host, record))
    const kept = untouched.flatMap(({ record }) => host.records.get(record.name) ?? [])
    removeTaps(host, transaction, replica, kept)
  }
}
