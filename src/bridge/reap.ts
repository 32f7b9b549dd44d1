import { abortScope, sleep } from '../lib/abort.js'
import { bondsOf } from './bond-port.js'
import type { Call } from './call.js'
import type { OvsTransaction, Part } from './commit.js'
import { deleteDevices, deviceRefused, removeDevices } from './device.js'
import type { Host } from './host.js'
import { type Tap, tapOf } from './inventory.js'
import { endMirrorsAt, mirrorsAt } from './mirror.js'
import type { PortName } from './names.js'
import { portOfInterface } from './ovs.js'
import { defunctMark, type TapRecord } from './ownership-tap.js'
import { tapNotFound } from './problem.js'
import { leaveBonds, portOfTap, removePorts, removeTaps } from './remove-ports.js'
import type { KeptRecord } from './tap-records.js'

const reapIntervalMs = 5_000

/**
 * Marks a tap defunct in OVSDB, then removes its device. Its port goes with the next reaping; at once that of a host
 * tap, whose device goes with it, and that of an adopted device, which stays and is its owner's again. The mirrors that
 * it is an end of end with the mark. A crash in between leaves a mark that the next start follows.
 *
 * Errors: `not-found`; `device-refused` when the device cannot be removed, the tap then stays defunct for the reaper.
 */
export async function destroyTap(host: Host, name: PortName, call: Call): Promise<Tap> {
  const receipt = await host.committer.commit(mark(host, name), call)
  await host.committer.applied(receipt, call)
  await removeDevices(host, [receipt.result], call)
  return tapOf(host, { ...receipt.result, defunct: true })
}

function mark(host: Host, name: PortName): Part<TapRecord> {
  const kind = host.records.get(name)?.record.backing.kind
  const portGoesAtOnce = kind === 'host' || kind === 'adopted'
  return {
    owns: [name, ...bondsOf(host, [name])],
    needs: [],
    reconfigures: portGoesAtOnce || mirrorsAt(host, [name]).length > 0,
    write: (transaction, replica) => {
      const kept = host.records.get(name)
      if (kept === undefined || kept.record.defunct) throw tapNotFound(name)
      markDefunct(transaction, [kept])
      endMirrorsAt(host, transaction, replica, [name])
      const port = portOfTap(host, replica, kept)
      if (portGoesAtOnce && port !== undefined) removePorts(transaction, replica, [port])
      if (portGoesAtOnce) leaveBonds(host, transaction, replica, [name])
      return () => kept.record
    },
  }
}

/** Marks taps defunct within a transaction. */
export function markDefunct(transaction: OvsTransaction, taps: readonly KeptRecord[]): void {
  for (const { uuid } of taps) transaction.setKeys('QoS', uuid, 'external_ids', defunctMark())
}

/** Removes all that defunct taps left, in one transaction; answers with their names, sorted. */
export async function reapTaps(host: Host, call: Call): Promise<PortName[]> {
  const names: PortName[] = []
  for (const { record } of host.records.all()) if (record.defunct) names.push(record.name)
  return await reap(host, names.sort(), call)
}

/**
 * Removes what is left of those of the taps that are defunct, and returns when ovs-vswitchd has dropped their ports.
 * Errors: `device-refused` when a device cannot be removed, once the others are gone; its tap then stays defunct.
 */
export async function reap(host: Host, names: readonly PortName[], call: Call): Promise<PortName[]> {
  const doomed = names.flatMap(name => host.records.get(name) ?? []).filter(({ record }) => record.defunct)
  if (doomed.length === 0) return []
  const records = doomed.map(({ record }) => record)
  const failed = await deleteDevices(host, records, call)
  const gone = records.map(({ name }) => name).filter(name => failed.every(({ name: left }) => left !== name))
  const hasPorts = gone.some(name => portOfInterface(host.ovsdb.replica, name) !== undefined)
  const receipt = await host.committer.commit(removal(host, gone, hasPorts), call)
  await host.committer.applied(receipt, call)
  if (failed[0] !== undefined) throw deviceRefused(failed[0])
  return receipt.result
}

function removal(host: Host, names: readonly PortName[], reconfigures: boolean): Part<PortName[]> {
  return {
    owns: [...names, ...bondsOf(host, names)],
    needs: [],
    reconfigures,
    write: (transaction, replica) => {
      const doomed = names.flatMap(name => host.records.get(name) ?? []).filter(({ record }) => record.defunct)
      removeTaps(host, transaction, replica, doomed)
      return () => doomed.map(({ record }) => record.name)
    },
  }
}

/** Reaps every 5 s until the daemon ends. What fails is told and tried again. */
export async function runReaper(host: Host): Promise<void> {
  while (!host.lifetime.aborted) {
    try {
      await sleep(reapIntervalMs, host.lifetime)
      using scope = abortScope({ deadline: Date.now() + 30_000, parents: [host.lifetime] })
      if (host.ovsdb.status.state === 'ready') await reapTaps(host, { signal: scope.signal, caller: 'reaper' })
    } catch (error) {
      if (!host.lifetime.aborted) host.notice('warn', 'reaping failed; trying again', { error })
    }
  }
}
