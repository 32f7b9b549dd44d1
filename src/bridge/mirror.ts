import type { Uuid } from '../ovsdb/index.js'
import { ownPort } from './bond-port.js'
import type { Call } from './call.js'
import type { OvsTransaction, Part } from './commit.js'
import type { Host } from './host.js'
import { managedBridge } from './inventory.js'
import { bridgeOfMirror, insertMirror, isMirror, mirrorName, mirrorsFrom, mirrorsTo } from './mirror-row.js'
import type { BridgeName, PortName } from './names.js'
import type { OvsReplica, OvsRows } from './ovs.js'
import { idOf, mirrorMarks, randomId } from './ownership.js'
import { portVlans } from './placement.js'
import { inUse, invalid, mirrorNotFound, nameTaken } from './problem.js'
import { committing, undoingOnFailure } from './undo.js'

/** A mirror as OVSDB shows it. */
export interface Mirror {
  readonly bridge: string
  /** undefined: everything that the bridge forwards. */
  readonly source: string | undefined
  readonly destination: string
}

export interface MirrorSpec {
  readonly bridge: BridgeName
  /** undefined: everything that the bridge forwards. */
  readonly source: PortName | undefined
  readonly destination: PortName
}

/**
 * Hands the destination copies of what the source sends and is sent, or of all that the bridge forwards. The copies keep
 * their tags, so meanwhile the destination's port is in no VLAN of its own.
 *
 * Errors: `invalid` when source and destination are one; `not-found` for a bridge, and a tap that is not on it;
 * `already-exists` when the destination has a mirror; `in-use` for a tap in a bond, a source that is a destination, and a
 * destination that is a source; `exhausted` when the bridge has all mirrors it can; those of a commit.
 */
export async function createMirror(host: Host, spec: MirrorSpec, call: Call): Promise<Mirror> {
  const { bridge, source, destination } = spec
  if (source === destination) throw invalid([{ field: 'source', description: `is ${source}, as is the destination` }])
  const id = randomId()
  return await undoingOnFailure(host, call, async undo => {
    const part = insertion(host, spec, id)
    const receipt = await committing(host, part, call, undo, (transaction, replica) =>
      endMirrors(
        host,
        transaction,
        replica,
        mirrorsOf(host, destination).filter(row => idOf(row.external_ids) === id),
      ),
    )
    await host.committer.applied(receipt, call)
    return { bridge, source, destination }
  })
}

function insertion(host: Host, { bridge, source, destination }: MirrorSpec, id: string): Part<void> {
  return {
    owns: source === undefined ? [destination] : [destination, source],
    needs: [bridge],
    reconfigures: true,
    write: (transaction, replica) => {
      const row = managedBridge(host, bridge)
      const output = ownPort(host, row, destination)
      const selected = source === undefined ? [] : [ownPort(host, row, source)]
      refuseOccupied(replica, output, selected)
      // One that somebody has deleted the port of.
      removeMirrors(transaction, replica, mirrorsOf(host, destination))
      insertMirror(transaction, row, {
        name: mirrorName(destination),
        output_port: output._uuid,
        select_all: source === undefined,
        select_src_port: selected.map(port => port._uuid),
        select_dst_port: selected.map(port => port._uuid),
        external_ids: mirrorMarks(host.instance, 'mirror', id),
      })
      // The copies would lose their tags on an access port.
      transaction.update('Port', output._uuid, { tag: undefined, vlan_mode: undefined, trunks: [] })
      return () => undefined
    },
  }
}

function refuseOccupied(replica: OvsReplica, output: OvsRows['Port'], selected: readonly OvsRows['Port'][]): void {
  const [occupant] = mirrorsTo(replica, output)
  if (occupant !== undefined) throw nameTaken(occupant.name, `a mirror to ${output.name}`)
  if (mirrorsFrom(replica, output).length > 0) throw inUse(output.name, 'IN_MIRROR', 'the source of a mirror')
  for (const port of selected) {
    if (mirrorsTo(replica, port).length > 0) throw inUse(port.name, 'IN_MIRROR', 'the destination of a mirror')
  }
}

/** Our mirrors to that tap: one, unless somebody has deleted the port of an earlier one. */
function mirrorsOf(host: Host, destination: string): OvsRows['Mirror'][] {
  const name = mirrorName(destination)
  return [...host.ovsdb.replica.rows('Mirror')].filter(row => row.name === name && isMirror(host, row))
}

/** Ends the mirror to a tap, which is on its VLAN again. Errors: `not-found`, those of a commit. */
export async function destroyMirror(host: Host, destination: PortName, call: Call): Promise<Mirror> {
  const part: Part<Mirror> = {
    owns: [destination],
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      const rows = mirrorsOf(host, destination)
      const [row] = rows
      if (row === undefined) throw mirrorNotFound(destination)
      const [source] = row.select_src_port.flatMap(uuid => replica.get('Port', uuid)?.name ?? [])
      const bridge = bridgeOfMirror(replica, row)?.name ?? ''
      endMirrors(host, transaction, replica, rows)
      return () => ({ bridge, source, destination })
    },
  }
  return await host.committer.commitApplied(part, call)
}

/** The mirrors of ours that have any of the taps at an end: without it they would copy nothing, or to nobody. */
export function mirrorsAt(host: Host, taps: readonly string[]): OvsRows['Mirror'][] {
  const { replica } = host.ovsdb
  const rows = taps.flatMap(tap => {
    const port = replica.find('Port', 'name', tap)
    return port === undefined ? [] : [...mirrorsTo(replica, port), ...mirrorsFrom(replica, port)]
  })
  return [...new Set(rows)].filter(row => isMirror(host, row))
}

/** Ends the mirrors that have any of the taps at an end. */
export function endMirrorsAt(
  host: Host,
  transaction: OvsTransaction,
  replica: OvsReplica,
  taps: readonly string[],
): void {
  endMirrors(host, transaction, replica, mirrorsAt(host, taps))
}

/** Removes mirrors, and puts their destinations back on their VLANs. */
function endMirrors(
  host: Host,
  transaction: OvsTransaction,
  replica: OvsReplica,
  mirrors: readonly OvsRows['Mirror'][],
): void {
  removeMirrors(transaction, replica, mirrors)
  for (const { output_port } of mirrors) {
    const port = output_port && replica.get('Port', output_port)
    const kept = port && host.records.get(port.name)
    if (port !== undefined && kept !== undefined) transaction.update('Port', port._uuid, portVlans(kept.record))
  }
}

/** What no bridge refers to any more, the database drops. */
export function removeMirrors(
  transaction: OvsTransaction,
  replica: OvsReplica,
  mirrors: readonly OvsRows['Mirror'][],
): void {
  const byBridge = new Map<Uuid, Uuid[]>()
  for (const mirror of mirrors) {
    const bridge = bridgeOfMirror(replica, mirror)
    if (bridge !== undefined) byBridge.set(bridge._uuid, [...(byBridge.get(bridge._uuid) ?? []), mirror._uuid])
  }
  for (const [bridge, uuids] of byBridge) transaction.mutate('Bridge', bridge, 'mirrors', 'delete', uuids)
}
