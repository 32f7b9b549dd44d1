import type { Link } from '../kernel/index.js'
import { sleep } from '../lib/abort.js'
import { isBond } from './bond-port.js'
import { markBridgeDevice } from './bridge-device.js'
import type { Call } from './call.js'
import type { OvsTransaction, Part } from './commit.js'
import { removeDevices } from './device.js'
import type { Host } from './host.js'
import { type Bridge, foreignPorts, getBridge, holderOf, listBridges } from './inventory.js'
import { removeMirrors } from './mirror.js'
import { type BridgeName, parseBridgeName } from './names.js'
import { netflowOf } from './netflow-row.js'
import { bridgeOf, type OvsReplica, type OvsRows, portsOf, requireRoot } from './ovs.js'
import { adoptedBridgeMarks, idOf, madeMarks, ourKeys, ownerOf, portMarks, preExisted, randomId } from './ownership.js'
import type { TapRecord } from './ownership-tap.js'
import { BridgeError, bridgeNotFound, nameTaken, notOwned } from './problem.js'
import { problemOf } from './problem-of.js'
import { realised, reconfigure } from './realise.js'
import { markDefunct, reap } from './reap.js'
import { removeBonds, removePorts } from './remove-ports.js'
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
  const device = await lastingDevice(host, name, call)
  const holder = holderOf(host, name) ?? (device && 'a network device')
  // A bridge that another call has made meanwhile is found by the transaction.
  if (holder !== undefined && holder !== 'a bridge') throw nameTaken(name, holder)
  return await undoingOnFailure(host, call, async undo => {
    const id = randomId()
    const receipt = await committing(host, insertion(host, name, id), call, undo, withdrawal(name, id))
    await realised(host, receipt, [{ name, ifindex: undefined }], call)
    await markBridgeDevice(host, name, call)
    return getBridge(host, name)
  })
}

/**
 * The device of that name. It may be there before the database has told us of its bridge, and that of a bridge which the
 * database has dropped may be there for a moment more: these are waited for.
 */
async function lastingDevice(host: Host, name: BridgeName, call: Call): Promise<Link | undefined> {
  let device = await host.kernel.getLink(name, call.signal)
  // The userspace datapath has tuntap devices for its internal ports.
  const isOfOpenVswitch = device?.kind === 'openvswitch' || device?.tun !== undefined
  if (!isOfOpenVswitch || holderOf(host, name) !== undefined) return device
  await reconfigure(host, call)
  // The device goes a little later than ovs-vswitchd says that it has dropped the port.
  for (const until = Date.now() + goingMs; Date.now() < until; await sleep(10, call.signal)) {
    device = await host.kernel.getLink(name, call.signal)
    if (device === undefined || holderOf(host, name) !== undefined) break
  }
  return device
}

const goingMs = 1_000

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
        external_ids: madeMarks(host.instance, id),
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

/** Bridge is no root table: what nothing refers to goes, and its ports and interfaces with it. */
export function deleteBridgeRow(transaction: OvsTransaction, replica: OvsReplica, row: OvsRows['Bridge']): void {
  transaction.mutate('Open_vSwitch', requireRoot(replica)._uuid, 'bridges', 'delete', [row._uuid])
}

/** What became of a destroyed bridge. */
export interface Destroyed {
  /** It was there before us, or carries ports of others: it stays, no longer managed. */
  readonly leftInPlace: boolean
}

/** A bridge that has been let go of. */
interface Demolition extends Destroyed {
  readonly taps: readonly TapRecord[]
}

/**
 * Destroys a managed bridge with all we put on it. The taps are marked defunct in the transaction that takes the bridge
 * away, then their devices go, then the records: wherever it is cut, the reaper goes on, and so does this call when it is
 * repeated. What somebody else had already removed is no hindrance.
 *
 * Errors: `not-found`; `not-owned` for a bridge that is not managed; those of a commit.
 */
export async function destroyBridge(host: Host, name: BridgeName, call: Call): Promise<Destroyed> {
  const begun = await host.committer.commitApplied(demolition(host, name), call)
  const { taps, leftInPlace } = begun
  await host.netflows.ended(name, call.signal)
  await removeDevices(host, taps, call)
  await reap(
    host,
    taps.map(tap => tap.name),
    call,
  )
  if (host.demolitions.get(name) === begun) host.demolitions.delete(name)
  return { leftInPlace }
}

/** What became of many bridges: their names, sorted. */
export interface AllDestroyed {
  readonly destroyed: readonly BridgeName[]
  readonly leftInPlace: readonly BridgeName[]
}

/**
 * Destroys every managed bridge, all in as few transactions as {@link destroyBridge} shares. One that fails keeps none of
 * the others.
 *
 * Errors: the first failure, once the others are done, with all of them in its message.
 */
export async function destroyAllBridges(host: Host, call: Call): Promise<AllDestroyed> {
  const names = [...new Set([...managedNames(host), ...host.demolitions.keys()])].sort()
  const destroyed: BridgeName[] = []
  const leftInPlace: BridgeName[] = []
  const failures: { readonly name: BridgeName; readonly error: unknown }[] = []
  const outcomes = names.map(async name => {
    try {
      const outcome = await destroyBridge(host, name, call)
      if (outcome.leftInPlace) leftInPlace.push(name)
      else destroyed.push(name)
    } catch (error) {
      // Somebody was quicker.
      if (problemOf(error)?.kind !== 'not-found') failures.push({ name, error })
    }
  })
  await Promise.all(outcomes)
  if (failures.length > 0) throw someFailed(failures, destroyed.length + leftInPlace.length)
  return { destroyed: destroyed.sort(), leftInPlace: leftInPlace.sort() }
}

function managedNames(host: Host): BridgeName[] {
  return listBridges(host).flatMap(({ name }) => {
    const parsed = parseBridgeName(name)
    return parsed.ok ? [parsed.value] : []
  })
}

function someFailed(
  failures: readonly { readonly name: BridgeName; readonly error: unknown }[],
  doneCount: number,
): unknown {
  const cause = failures[0]?.error
  const problem = problemOf(cause)
  if (problem === undefined) return cause
  const told = failures.map(({ name, error }) => `${name}: ${problemOf(error)?.message ?? 'a defect'}`).join('; ')
  const message = `${doneCount} bridges are destroyed, and ${failures.length} are not: ${told}`
  return new BridgeError({ ...problem, message }, { cause })
}

function demolition(host: Host, name: BridgeName): Part<Demolition> {
  return {
    owns: [name],
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      const row = replica.find('Bridge', 'name', name)
      const taps = tapsOn(host, name)
      const begun = host.demolitions.get(name)
      const isOurs = row !== undefined && ownerOf(row.external_ids) === host.instance
      if (!isOurs) refuseUnlessBegun(name, row, taps, begun)
      markDefunct(transaction, taps)
      if (row !== undefined) {
        // Their records are root rows, and would outlive them.
        removeBonds(
          transaction,
          replica,
          [...portsOf(replica, row)].filter(port => isBond(host, port)),
        )
      }
      const stays = isOurs && (preExisted(row.external_ids) || foreignPorts(host, row).length > 0)
      if (stays) release(host, transaction, replica, row)
      else if (isOurs) deleteBridgeRow(transaction, replica, row)
      const leftInPlace = isOurs ? stays : (begun?.leftInPlace ?? false)
      const demolished = { taps: taps.map(({ record }) => record), leftInPlace }
      return () => {
        host.demolitions.set(name, demolished)
        return demolished
      }
    },
  }
}

/** Throws unless a bridge that we do not manage is one that an earlier call or somebody else took from under its taps. */
function refuseUnlessBegun(
  name: BridgeName,
  row: OvsRows['Bridge'] | undefined,
  taps: readonly KeptRecord[],
  begun: Destroyed | undefined,
): void {
  if (row !== undefined && !begun?.leftInPlace) throw notOwned(name, 'is a bridge that this service does not manage')
  if (row === undefined && begun === undefined && taps.length === 0) throw bridgeNotFound(name)
}

function tapsOn(host: Host, bridge: BridgeName): KeptRecord[] {
  return [...host.records.all()].filter(({ record }) => record.bridge === bridge)
}

/** Takes our ports and keys off a bridge that stays. */
function release(host: Host, transaction: OvsTransaction, replica: OvsReplica, row: OvsRows['Bridge']): void {
  const ours = [...portsOf(replica, row)].filter(
    port => port.name !== row.name && ownerOf(port.external_ids) === host.instance && !isBond(host, port),
  )
  removePorts(transaction, replica, ours)
  removeMirrors(
    transaction,
    replica,
    row.mirrors
      .flatMap(uuid => replica.get('Mirror', uuid) ?? [])
      .filter(mirror => ownerOf(mirror.external_ids) === host.instance),
  )
  if (netflowOf(host, row) !== undefined) transaction.update('Bridge', row._uuid, { netflow: undefined })
  const without = (ids: ReadonlyMap<string, string>) => new Map(ourKeys(ids).map(key => [key, undefined]))
  transaction.setKeys('Bridge', row._uuid, 'external_ids', without(row.external_ids))
  const local = replica.find('Port', 'name', row.name)
  if (local !== undefined && bridgeOf(replica, local)?._uuid === row._uuid) {
    transaction.setKeys('Port', local._uuid, 'external_ids', without(local.external_ids))
  }
}
