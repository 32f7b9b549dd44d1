import type { Call } from './call.js'
import type { OvsTransaction, Part } from './commit.js'
import { removeDevices } from './device.js'
import type { Host } from './host.js'
import { type Bridge, foreignPorts, getBridge, holderOf } from './inventory.js'
import type { BridgeName } from './names.js'
import { bridgeOf, type OvsReplica, type OvsRows, portsOf, rootOf } from './ovs.js'
import {
  adoptedBridgeMarks,
  idOf,
  madeBridgeMarks,
  ourKeys,
  ownerOf,
  portMarks,
  preExisted,
  randomId,
  type TapRecord,
} from './ownership.js'
import { BridgeError, bridgeNotFound, nameTaken, notOwned } from './problem.js'
import { realised } from './realise.js'
import { markDefunct, reap } from './reap.js'
import { removePorts } from './remove-ports.js'
import type { KeptRecord } from './tap-records.js'
import { committing, type TakeBack, undoingOnFailure } from './undo.js'

/**
 * Creates the bridge if there is none of that name, and takes it under management. One that is there already is marked
 * as pre-existing, and otherwise left as it is.
 *
 * Errors: `already-exists` when the name is that of a port, an interface or a network device; `not-owned` when another
 * instance manages it; `not-realised`, and those of a commit.
 */
export async function ensureBridge(host: Host, name: BridgeName, call: Call): Promise<Bridge> {
  const row = host.ovsdb.replica.find('Bridge', 'name', name)
  if (row === undefined) return await createBridge(host, name, call)
  if (ownerOf(row.external_ids) !== host.instance) await host.committer.commit(adoption(host, name), call)
  return getBridge(host, name)
}

async function createBridge(host: Host, name: BridgeName, call: Call): Promise<Bridge> {
  const device = await host.kernel.getLink(name, call.signal)
  const holder = holderOf(host, name)
  if (holder !== undefined) throw nameTaken(name, holder)
  if (device !== undefined) throw nameTaken(name, 'a network device')
  return await undoingOnFailure(host, call, async undo => {
    const id = randomId()
    const receipt = await committing(host, insertion(host, name, id), call, undo, withdrawal(name, id))
    await realised(host, receipt, [{ name, ifindex: undefined }], call)
    return getBridge(host, name)
  })
}

function insertion(host: Host, name: BridgeName, id: string): Part<void> {
  return {
    owns: [name],
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      const holder = holderOf(host, name)
      // Two callers may ensure one bridge at a time: the second finds what the first has made.
      if (holder === 'a bridge') return adoptIfForeign(host, transaction, replica, name)
      if (holder !== undefined) throw nameTaken(name, holder)
      const iface = transaction.insert('Interface', { name, type: 'internal' })
      const port = transaction.insert('Port', {
        name,
        interfaces: [iface],
        external_ids: portMarks(host.instance, 'local'),
      })
      const bridge = transaction.insert('Bridge', {
        name,
        ports: [port],
        datapath_type: host.datapathType,
        external_ids: madeBridgeMarks(host.instance, id),
      })
      const root = requireRoot(replica)
      transaction.mutate('Open_vSwitch', root._uuid, 'bridges', 'insert', [bridge])
      return () => undefined
    },
  }
}

function adoption(host: Host, name: BridgeName): Part<void> {
  return {
    owns: [name],
    needs: [],
    reconfigures: false,
    write: (transaction, replica) => adoptIfForeign(host, transaction, replica, name),
  }
}

function adoptIfForeign(host: Host, transaction: OvsTransaction, replica: OvsReplica, name: BridgeName): () => void {
  const row = replica.find('Bridge', 'name', name)
  if (row === undefined) throw bridgeNotFound(name)
  const owner = ownerOf(row.external_ids)
  if (owner !== undefined && owner !== host.instance) throw notOwned(name, `is managed by the instance ${owner}`)
  if (owner === undefined) {
    transaction.wait('Bridge', row._uuid, { external_ids: row.external_ids })
    transaction.setKeys('Bridge', row._uuid, 'external_ids', adoptedBridgeMarks(host.instance))
  }
  return () => undefined
}

/** Takes back a bridge that could not be realised. The id tells ours from one that somebody made of that name since. */
function withdrawal(name: BridgeName, id: string): TakeBack {
  return (transaction, replica) => {
    const row = replica.find('Bridge', 'name', name)
    if (row !== undefined && idOf(row.external_ids) === id) deleteBridgeRow(transaction, replica, row)
  }
}

function deleteBridgeRow(transaction: OvsTransaction, replica: OvsReplica, row: OvsRows['Bridge']): void {
  // Bridge is no root table: what nothing refers to goes, and its ports and interfaces with it.
  transaction.mutate('Open_vSwitch', requireRoot(replica)._uuid, 'bridges', 'delete', [row._uuid])
}

function requireRoot(replica: OvsReplica): OvsRows['Open_vSwitch'] {
  const root = rootOf(replica)
  if (root === undefined) {
    const message = 'the database has no Open_vSwitch row: it is not initialised'
    throw new BridgeError({ kind: 'backend-unavailable', reason: 'OVSDB_UNAVAILABLE', message })
  }
  return root
}

/** What became of a destroyed bridge. */
export interface Destroyed {
  /** It was there before us, or carries ports of others: it stays, no longer managed. */
  readonly leftInPlace: boolean
}

interface Demolition extends Destroyed {
  readonly taps: readonly TapRecord[]
}

/**
 * Destroys a managed bridge with all we put on it. The taps are marked defunct in the transaction that takes the bridge
 * away, then their devices go, then the records: wherever it is cut, the reaper goes on.
 *
 * Errors: `not-found`; `not-owned` for a bridge that is not managed; those of a commit.
 */
export async function destroyBridge(host: Host, name: BridgeName, call: Call): Promise<Destroyed> {
  const receipt = await host.committer.commit(demolition(host, name), call)
  const { taps, leftInPlace } = receipt.result
  await host.committer.applied(receipt, call)
  await removeDevices(host, taps, call)
  await reap(
    host,
    taps.map(tap => tap.name),
    call,
  )
  return { leftInPlace }
}

function demolition(host: Host, name: BridgeName): Part<Demolition> {
  return {
    owns: [name],
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      const row = replica.find('Bridge', 'name', name)
      if (row === undefined) throw bridgeNotFound(name)
      if (ownerOf(row.external_ids) !== host.instance)
        throw notOwned(name, 'is a bridge that this service does not manage')
      const taps = tapsOn(host, name)
      markDefunct(transaction, taps)
      const leftInPlace = preExisted(row.external_ids) || foreignPorts(host, row).length > 0
      if (leftInPlace) release(host, transaction, replica, row)
      else deleteBridgeRow(transaction, replica, row)
      return () => ({ taps: taps.map(({ record }) => record), leftInPlace })
    },
  }
}

function tapsOn(host: Host, bridge: BridgeName): KeptRecord[] {
  return [...host.records.all()].filter(({ record }) => record.bridge === bridge)
}

/** Takes our ports and keys off a bridge that stays. */
function release(host: Host, transaction: OvsTransaction, replica: OvsReplica, row: OvsRows['Bridge']): void {
  const ours = [...portsOf(replica, row)].filter(
    port => port.name !== row.name && ownerOf(port.external_ids) === host.instance,
  )
  removePorts(transaction, replica, ours)
  const without = (ids: ReadonlyMap<string, string>) => new Map(ourKeys(ids).map(key => [key, undefined]))
  transaction.setKeys('Bridge', row._uuid, 'external_ids', without(row.external_ids))
  const local = replica.find('Port', 'name', row.name)
  if (local !== undefined && bridgeOf(replica, local)?._uuid === row._uuid) {
    transaction.setKeys('Port', local._uuid, 'external_ids', without(local.external_ids))
  }
}
