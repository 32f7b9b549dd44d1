import { adopt } from './adoption.js'
import { refuseBonded } from './bond-port.js'
import type { Call } from './call.js'
import type { Part } from './commit.js'
import { linksNamed, makeDevices } from './device.js'
import type { Host } from './host.js'
import { managedBridge, type Tap, tapOf } from './inventory.js'
import { refuseMirrored } from './mirror-row.js'
import type { BridgeName, MacAddress, PortName, VlanId } from './names.js'
import type { TapRecord } from './ownership-tap.js'
import { awaitPlaced, keepRecord, type PlacedRecord, type Placement, placing, writePlacements } from './placement.js'
import { refuseUnpoliced } from './policing.js'
import { BridgeError, deviceNotFound, invalid, nameTaken } from './problem.js'
import { removePorts } from './remove-ports.js'
import { clearDefunct } from './tap.js'
import { isUntouched, recordOf, refuseChanged } from './tap-changes.js'
import { committing, type TakeBack, type UndoStep, undoingOnFailure } from './undo.js'

/** Where a tap is to go; what is undefined stays as it is. */
export interface Destination {
  readonly bridge: BridgeName | undefined
  readonly vlan: VlanId | undefined
}

/**
 * Puts a detached tap back on a bridge, or takes over a device that somebody else made.
 *
 * Errors: `not-found` bridge or device, `already-exists` for a tap that is on a bridge, `not-owned` for a port of another
 * instance or of a kind that is no tap, `not-realised`, those of a commit. What it had done is then undone.
 */
export async function addTap(
  host: Host,
  name: PortName,
  to: Destination & { readonly mac: MacAddress | undefined },
  call: Call,
): Promise<Tap> {
  const bridge = to.bridge ?? host.defaultBridge
  managedBridge(host, bridge)
  await clearDefunct(host, [name], call)
  if (host.records.get(name) === undefined) return await adopt(host, name, { ...to, bridge }, call)
  return await onLatest(host, name, call, async before => {
    if (before.bridge !== undefined) throw nameTaken(name, `a tap on bridge ${before.bridge}`)
    const after = { ...before, bridge, vlan: to.vlan ?? before.vlan, mac: to.mac ?? before.mac }
    return await relocate(host, before, after, call)
  })
}

/**
 * Puts a tap on another bridge or VLAN. The port moves as it stands, in one transaction: ovs-vswitchd never sees the tap
 * on two bridges or on none.
 *
 * Errors: `not-found`, `invalid` for a detached tap without a bridge, `in-use` for a member of a bond, the destination of a
 * mirror, and a source that is to leave its bridge, `not-realised`, those of a commit; the tap is then where it was.
 */
export async function moveTap(host: Host, name: PortName, to: Destination, call: Call): Promise<Tap> {
  return await onLatest(host, name, call, async before => {
    const bridge = to.bridge ?? before.bridge
    if (bridge === undefined) {
      throw invalid([{ field: 'bridge', description: `is empty, and ${name} is detached` }])
    }
    managedBridge(host, bridge)
    return await relocate(host, before, { ...before, bridge, vlan: to.vlan ?? before.vlan }, call)
  })
}

/**
 * Makes a tap a dot1q-tunnel port with this outer VLAN (ovs-vswitchd.conf.db(5), Port.vlan_mode), or with undefined an
 * access port of its VLAN again. Errors: `not-found`, `in-use` as of a move on one bridge, those of a commit.
 */
export async function setTapQinQ(host: Host, name: PortName, outerVlan: VlanId | undefined, call: Call): Promise<Tap> {
  return await onLatest(host, name, call, async before => {
    const { bridge } = before
    const after = { ...before, qinqOuterVlan: outerVlan }
    if (bridge !== undefined) return await relocate(host, before, { ...after, bridge }, call)
    await host.committer.commit(recording(host, before, after), call)
    return tapOf(host, after)
  })
}

/** Changes the record of a detached tap. */
function recording(host: Host, before: TapRecord, after: TapRecord): Part<void> {
  return {
    owns: [after.name],
    needs: [],
    reconfigures: false,
    write: transaction => {
      refuseChanged(host, before)
      keepRecord(host, transaction, after)
      return () => undefined
    },
  }
}

/** Changes a tap from what it is; again when another call has changed it meanwhile, so that what that did is kept. */
async function onLatest(
  host: Host,
  name: PortName,
  call: Call,
  change: (before: TapRecord) => Promise<Tap>,
): Promise<Tap> {
  for (;;) {
    try {
      return await change(recordOf(host, name))
    } catch (error) {
      if (!(error instanceof BridgeError) || error.problem.kind !== 'busy' || call.signal.aborted) throw error
    }
  }
}

/** What a bond or a mirror holds: a member its port, the destination of a mirror its VLAN too, a source its bridge. */
function refuseHeld(host: Host, before: TapRecord, after: { readonly bridge: BridgeName | undefined }): void {
  refuseBonded(host, before.name)
  refuseMirrored(host, before.name, after.bridge !== before.bridge)
}

/** Makes a tap of ours be as `after` says, or leaves it as `before` says. */
async function relocate(host: Host, before: TapRecord, after: PlacedRecord, call: Call): Promise<Tap> {
  return await undoingOnFailure(host, call, async undo => {
    const refuse = () => {
      refuseChanged(host, before)
      refuseHeld(host, before, after)
      // A limit may have been set or taken away since: it does not wait for those who move the tap.
      refuseUnpoliced(recordOf(host, after.name).policedKbps, after.name, managedBridge(host, after.bridge))
    }
    refuse()
    const placement = await withDevice(host, before, after, call, undo)
    const part = placing(host, [placement], refuse)
    const receipt = await committing(host, part, call, undo, putBack(host, before, placement.record))
    return await awaitPlaced(host, receipt, placement, call)
  })
}

/** The device of a tap; it is made anew if somebody has removed it and we know how. */
async function withDevice(
  host: Host,
  before: TapRecord,
  record: PlacedRecord,
  call: Call,
  undo: (step: UndoStep) => void,
): Promise<Placement> {
  if (record.backing.kind === 'host') return { record, ifindex: undefined }
  const [link] = await linksNamed(host, [record.name], call)
  if (link !== undefined) return { record, ifindex: link.index }
  if (record.backing.kind === 'adopted') throw deviceNotFound(record.name)
  await dropDeadPort(host, before, call, undo)
  const read = () => {
    refuseChanged(host, before)
    return [record]
  }
  const [made] = await makeDevices(host, [record.name], read, call, undo)
  return made ?? { record, ifindex: undefined }
}

/**
 * Takes the port of a device that is gone off its bridge, and returns when ovs-vswitchd has dropped it: under a port that
 * stays, the userspace datapath would go on with the dead device and not see the new one of its name.
 */
async function dropDeadPort(host: Host, before: TapRecord, call: Call, undo: (step: UndoStep) => void): Promise<void> {
  const { name, bridge } = before
  const isOpen = (host.ovsdb.replica.find('Interface', 'name', name)?.ofport ?? -1) > 0
  if (bridge === undefined || !isOpen) return
  const part: Part<void> = {
    owns: [name],
    needs: [bridge],
    reconfigures: true,
    write: (transaction, replica) => {
      refuseChanged(host, before)
      refuseHeld(host, before, { bridge: undefined })
      const port = replica.find('Port', 'name', name)
      if (port !== undefined) removePorts(transaction, replica, [port])
      return () => undefined
    },
  }
  const receipt = await committing(host, part, call, undo, (transaction, replica) => {
    if (isUntouched(host, before)) writePlacements(host, transaction, replica, [{ ...before, bridge }])
  })
  await host.committer.applied(receipt, call)
}

/** Puts a tap back to where it was, unless another call has moved it on since. */
function putBack(host: Host, before: TapRecord, after: TapRecord): TakeBack {
  return (transaction, replica) => {
    const { bridge } = before
    if (!isUntouched(host, after)) return
    if (bridge !== undefined) writePlacements(host, transaction, replica, [{ ...before, bridge }])
    else {
      const port = replica.find('Port', 'name', before.name)
      if (port !== undefined) removePorts(transaction, replica, [port])
      keepRecord(host, transaction, before)
    }
  }
}

/**
 * Takes a tap off its bridge; device and record stay. A tap that is detached already is returned as it is. A host tap's
 * device goes with its port. Errors: `not-found`, `in-use` in a bond or at an end of a mirror, those of a commit.
 */
export async function removeTap(host: Host, name: PortName, call: Call): Promise<Tap> {
  return await onLatest(host, name, call, async before => {
    if (before.bridge === undefined) return tapOf(host, before)
    const after = { ...before, bridge: undefined }
    await host.committer.commitApplied(detaching(host, { ...before, bridge: before.bridge }), call)
    return tapOf(host, after)
  })
}

function detaching(host: Host, before: PlacedRecord): Part<void> {
  return {
    owns: [before.name],
    // Or the bridge could be destroyed in the same transaction, and the tap with it.
    needs: [before.bridge],
    reconfigures: true,
    write: (transaction, replica) => {
      refuseChanged(host, before)
      refuseHeld(host, before, { bridge: undefined })
      const port = replica.find('Port', 'name', before.name)
      if (port !== undefined) removePorts(transaction, replica, [port])
      keepRecord(host, transaction, { ...before, bridge: undefined })
      return () => undefined
    },
  }
}
