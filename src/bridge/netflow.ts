import { raceAbort } from '../lib/abort.js'
import {
  type Collector,
  type CollectorCounters,
  type WriterCounters,
  type WriterSpec,
  writerName,
} from '../netflow/index.js'
import type { Call } from './call.js'
import type { OvsTransaction, Part } from './commit.js'
import type { Host } from './host.js'
import { managedBridge } from './inventory.js'
import type { BridgeName } from './names.js'
import { freeEngine, type KeptNetflow, keptNetflow, netflowOf, refuseNetflow } from './netflow-row.js'
import type { OvsRows } from './ovs.js'
import { netflowMarks, ownerOf, randomId, writerKeys, writerMarks } from './ownership.js'
import { busy, exhausted, noNetflow, writerExists, writerNotFound } from './problem.js'
import { committing, undoingOnFailure } from './undo.js'

export { formatIpv4, parseWriterTarget, type WriterFormat, writerName } from '../netflow/index.js'

/** A NetFlow with what has come of it in this run of the service. */
export interface Netflow {
  readonly bridge: string
  readonly activeTimeoutS: number
  readonly endWithLastWriter: boolean
  /** `127.0.0.1:PORT`; undefined: it is not collecting yet. */
  readonly collector: string | undefined
  readonly counters: CollectorCounters | undefined
  /** By name, sorted. */
  readonly writers: readonly NetflowWriter[]
}

export interface NetflowWriter {
  readonly spec: WriterSpec
  /** undefined: it is not writing yet. */
  readonly counters: WriterCounters | undefined
}

export interface NetflowSpec {
  readonly bridge: BridgeName
  readonly activeTimeoutS: number
  readonly endWithLastWriter: boolean
}

/** Each has a queue, and all stand in one row of the database. */
const maxWriters = 32

/**
 * Has Open vSwitch tell the flows of a bridge to a collector of ours.
 *
 * Errors: `not-found` for the bridge; `already-exists` for one that has a NetFlow, whosever it is; those of a commit.
 */
export async function createNetflow(host: Host, spec: NetflowSpec, call: Call): Promise<Netflow> {
  const { bridge } = spec
  refuseNetflow(host, managedBridge(host, bridge))
  const id = randomId()
  const engine = freeEngine(host.ovsdb.replica)
  return await undoingOnFailure(host, call, async undo => {
    const collector = await host.netflows.open({ id, bridge, engine, activeTimeoutS: spec.activeTimeoutS })
    undo(async () => host.netflows.end(id))
    const columns = {
      targets: [collector.address],
      engine_type: engine.type,
      engine_id: engine.id,
      active_timeout: spec.activeTimeoutS,
      external_ids: netflowMarks(host.instance, { id, endWithLastWriter: spec.endWithLastWriter }),
    }
    const part: Part<void> = {
      owns: [bridge],
      needs: [],
      reconfigures: true,
      write: transaction => {
        const row = managedBridge(host, bridge)
        refuseNetflow(host, row)
        transaction.wait('Bridge', row._uuid, { netflow: undefined })
        transaction.update('Bridge', row._uuid, { netflow: transaction.insert('NetFlow', columns) })
        return () => undefined
      },
    }
    const receipt = await committing(host, part, call, undo, (transaction, replica) => {
      const row = replica.find('Bridge', 'name', bridge)
      if (row !== undefined && netflowOf(host, row)?.record.id === id) endNetflow(transaction, row)
    })
    await host.committer.applied(receipt, call)
    return getNetflow(host, bridge)
  })
}

/** The database drops what no bridge refers to any more, and the collector goes with it. */
function endNetflow(transaction: OvsTransaction, bridge: OvsRows['Bridge']): void {
  transaction.update('Bridge', bridge._uuid, { netflow: undefined })
}

/** Errors: `not-found`. */
export function getNetflow(host: Host, bridge: BridgeName): Netflow {
  const kept = keptNetflow(host, bridge)
  return netflowView(bridge, kept, host.netflows.get(kept.record.id))
}

function netflowView(bridge: string, { row, record }: KeptNetflow, collector: Collector | undefined): Netflow {
  return {
    bridge,
    activeTimeoutS: Number(row.active_timeout),
    endWithLastWriter: record.endWithLastWriter,
    collector: collector && row.targets[0],
    counters: collector?.counters,
    writers: Array.from(record.writers, ([name, spec]) => ({ spec, counters: collector?.writers.get(name)?.counters })),
  }
}

/** Sets how often flows are told. Errors: `not-found`, those of a commit. */
export async function setNetflowTimeout(
  host: Host,
  bridge: BridgeName,
  activeTimeoutS: number,
  call: Call,
): Promise<Netflow> {
  const { row: former, record } = keptNetflow(host, bridge)
  const set = (transaction: OvsTransaction, active_timeout: number) =>
    transaction.update('NetFlow', keptNetflow(host, bridge).row._uuid, { active_timeout })
  const part = changing(bridge, true, transaction => set(transaction, activeTimeoutS))
  return await undoingOnFailure(host, call, async undo => {
    const receipt = await committing(host, part, call, undo, (transaction, replica) => {
      const row = replica.get('NetFlow', former._uuid)
      if (row?.active_timeout === activeTimeoutS) set(transaction, Number(former.active_timeout))
    })
    await host.committer.applied(receipt, call)
    const kept = keptNetflow(host, bridge)
    return netflowView(bridge, kept, host.netflows.get(record.id))
  })
}

/**
 * Ends the NetFlow of a bridge; its writers have written what they had, for a second at most. Errors: `not-found`,
 * those of a commit.
 */
export async function destroyNetflow(host: Host, bridge: BridgeName, call: Call): Promise<Netflow> {
  const kept = keptNetflow(host, bridge)
  const collector = host.netflows.get(kept.record.id)
  const part = changing(bridge, true, transaction => {
    keptNetflow(host, bridge)
    endNetflow(transaction, managedBridge(host, bridge))
  })
  await host.committer.commitApplied(part, call)
  await host.netflows.ended(bridge, call.signal)
  return netflowView(bridge, kept, collector)
}

/** A part that changes the NetFlow of a bridge. */
function changing(bridge: string, reconfigures: boolean, write: (transaction: OvsTransaction) => void): Part<void> {
  return {
    owns: [bridge],
    needs: [],
    reconfigures,
    write: transaction => {
      write(transaction)
      return () => undefined
    },
  }
}

/**
 * Adds a writer; its file is made at once, a peer need not be there yet.
 *
 * Errors: `not-found`; `already-exists` for a writer or a file of that name; `file-refused`; `exhausted`; those of a commit.
 */
export async function addNetflowWriter(host: Host, bridge: BridgeName, spec: WriterSpec, call: Call): Promise<Netflow> {
  const { record } = keptNetflow(host, bridge)
  const name = writerName(spec.target)
  const collector = collectorOf(host, bridge, record.id)
  refuseWriter(host, bridge, name)
  return await undoingOnFailure(host, call, async undo => {
    const { writer, file } = await host.netflows.openWriter(bridge, spec)
    undo(async () => {
      await writer[Symbol.asyncDispose]()
      await host.netflows.forgetFile(spec)
    })
    const part = changing(bridge, false, transaction => {
      const { row, record: now } = refuseWriter(host, bridge, name)
      // Ended and made anew meanwhile: the writer would be listed there and get nothing.
      if (now.id !== record.id) throw noNetflow(bridge)
      transaction.setKeys('NetFlow', row._uuid, 'external_ids', writerMarks(spec, file))
    })
    await committing(host, part, call, undo, (transaction, replica) => {
      const row = replica.find('Bridge', 'name', bridge)
      const kept = row && netflowOf(host, row)
      if (kept?.record.id !== record.id || !kept.record.writers.has(name)) return
      transaction.setKeys('NetFlow', kept.row._uuid, 'external_ids', writerKeys(name))
    })
    collector.add(writer)
    return getNetflow(host, bridge)
  })
}

/** The collector of a NetFlow that is there. Errors: `busy` for one that is only being put back after a start. */
function collectorOf(host: Host, bridge: string, id: string): Collector {
  const collector = host.netflows.get(id)
  if (collector !== undefined) return collector
  throw busy(`the NetFlow of bridge ${bridge} is not collecting yet; try again`)
}

function refuseWriter(host: Host, bridge: string, name: string): KeptNetflow {
  const kept = keptNetflow(host, bridge)
  if (kept.record.writers.has(name)) throw writerExists(name, bridge)
  if (kept.record.writers.size >= maxWriters) {
    throw exhausted(`the NetFlow of bridge ${bridge} has ${maxWriters} writers, which is all it may have`)
  }
  return kept
}

/** A NetFlow that has lost a writer. */
export interface WriterRemoved {
  readonly netflow: Netflow
  /** The NetFlow has ended with its last writer, as it was asked to. */
  readonly ended: boolean
}

/** Removes a writer once it has written what it had, for a second at most. Errors: `not-found`, those of a commit. */
export async function removeNetflowWriter(
  host: Host,
  bridge: BridgeName,
  name: string,
  call: Call,
): Promise<WriterRemoved> {
  const { record } = keptNetflow(host, bridge)
  const part: Part<{ readonly kept: KeptNetflow; readonly ended: boolean; readonly collector: Collector | undefined }> =
    {
      owns: [bridge],
      needs: [],
      reconfigures: record.endWithLastWriter,
      write: transaction => {
        const kept = keptNetflow(host, bridge)
        if (!kept.record.writers.has(name)) throw writerNotFound(name, bridge)
        const writers = new Map([...kept.record.writers].filter(([other]) => other !== name))
        const ended = kept.record.endWithLastWriter && writers.size === 0
        if (ended) endNetflow(transaction, managedBridge(host, bridge))
        else transaction.setKeys('NetFlow', kept.row._uuid, 'external_ids', writerKeys(name))
        const collector = host.netflows.get(kept.record.id)
        return () => ({ kept: { row: kept.row, record: { ...kept.record, writers } }, ended, collector })
      },
    }
  const { kept, ended, collector } = await host.committer.commitApplied(part, call)
  await raceAbort(Promise.all([collector?.remove(name), host.netflows.ended(bridge, call.signal)]), call.signal)
  return { netflow: netflowView(bridge, kept, collector), ended }
}

/** Puts the collectors and writers of an earlier run back. Answers with the names of their bridges. */
export async function restoreNetflows(host: Host, call: Call): Promise<string[]> {
  const restored: string[] = []
  for (const bridge of host.ovsdb.replica.rows('Bridge')) {
    const kept = ownerOf(bridge.external_ids) === host.instance ? netflowOf(host, bridge) : undefined
    if (kept === undefined || host.netflows.get(kept.record.id) !== undefined) continue
    try {
      await restoreNetflow(host, bridge.name, kept, call)
      restored.push(bridge.name)
    } catch (error) {
      host.netflows.end(kept.record.id)
      host.notice('warn', 'a NetFlow could not be put back', { bridge: bridge.name, error })
    }
  }
  return restored
}

async function restoreNetflow(host: Host, bridge: string, { row, record }: KeptNetflow, call: Call): Promise<void> {
  const { id, writers, files } = record
  const engine = { type: row.engine_type ?? 0, id: row.engine_id ?? 0 }
  const collector = await host.netflows.open({ id, bridge, engine, activeTimeoutS: Number(row.active_timeout) })
  for (const [name, spec] of writers) collector.add(host.netflows.resumeWriter(bridge, spec, files.get(name)))
  const part = changing(bridge, true, transaction =>
    transaction.update('NetFlow', row._uuid, { targets: [collector.address] }),
  )
  await host.committer.commit(part, call)
}
