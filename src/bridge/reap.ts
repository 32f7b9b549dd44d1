import { abortScope } from '../lib/abort.js'
import { bondsOf } from './bond-port.js'
import type { Call } from './call.js'
import type { OvsTransaction, Part } from './commit.js'
import { deleteDevices, deviceRefused, isBare, removeDevices } from './device.js'
import type { Host } from './host.js'
import { type Tap, tapOf } from './inventory.js'
import { endMirrorsAt, mirrorsAt } from './mirror.js'
import type { PortName } from './names.js'
import { portOfInterface } from './ovs.js'
import { defunctMark, type TapRecord } from './ownership-tap.js'
import { tapNotFound } from './problem.js'
import { problemOf } from './problem-of.js'
import { leaveBonds, portOfTap, removePorts, removeTaps } from './remove-ports.js'
import type { KeptRecord } from './tap-records.js'

const reapIntervalMs = 5_000
const reapTimeoutMs = 30_000
/** What a call about many taps has for each of them, beside the time of any call. */
export const perTapMs = 20

/**
 * Ports that go in one epoch. On the userspace datapath ovs-vswitchd waits for a grace period of RCU as it closes each, ten
 * milliseconds or more, and whoever creates a tap meanwhile waits for all of them.
 */
export const portsPerEpoch = 64

/**
 * Marks a tap defunct in OVSDB, then removes its device. Its port goes with the next reaping; at once that of a host
 * tap, whose device goes with it, and that of an adopted device, which stays and is its owner's again. The mirrors that
 * it is an end of end with the mark. A crash in between leaves a mark that the next start follows.
 *
 * Errors: `not-found`; `device-refused` when the device cannot be removed, the tap then stays defunct for the reaper.
 */
export async function destroyTap(host: Host, name: PortName, call: Call): Promise<Tap> {
  const marked = await host.committer.commitApplied(mark(host, name), call)
  await removeDevices(host, [marked], call)
  return tapOf(host, { ...marked, defunct: true })
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

/**
 * Removes all that defunct taps left; answers with their names, sorted. Those who ask for it at the same time take turns, group
 * by group. Errors: as {@link reap}.
 */
export async function reapTaps(host: Host, call: Call): Promise<PortName[]> {
  return await reapInTurn(host, [...host.records.defunct], call)
}

async function reapInTurn(host: Host, names: readonly PortName[], call: Call): Promise<PortName[]> {
  return await reap(host, names.toSorted(), call, work => host.reapings.run('ports', call.signal, work))
}

/** When a group of ports goes. */
type Turn = (work: () => Promise<void>) => Promise<void>

const atOnce: Turn = work => work()

/**
 * Removes what is left of those of the taps that are defunct, a group of ports at a time, and returns when ovs-vswitchd has
 * dropped them; answers with the names of those that are gone.
 *
 * Errors, once the others are gone: `device-refused` when a device cannot be removed, `busy` when the database takes a port
 * or a record for needed. The tap then stays defunct.
 */
export async function reap(
  host: Host,
  names: readonly PortName[],
  call: Call,
  turn: Turn = atOnce,
): Promise<PortName[]> {
  const ids = new Map(names.map(name => [name, host.records.get(name)?.record.id]))
  // Nothing is done to a tap that another call has made anew under the name meanwhile, be it defunct again.
  const isDefunct = (name: PortName) =>
    host.records.defunct.has(name) && host.records.get(name)?.record.id === ids.get(name)
  const refusals: unknown[] = []
  const reapPorts = async (gone: readonly PortName[]) => {
    // A group is made up when its turn comes: of those who take turns, none leaves another half a group.
    for (let waiting = gone; waiting.length > 0; ) {
      await turn(async () => {
        const { group, rest } = nextGroup(host, waiting.filter(isDefunct))
        waiting = rest
        refusals.push(...(await reapGroup(host, group, call)))
      })
    }
  }
  const doomed = names.filter(isDefunct)
  // Their ports need not wait for the kernel, which may be busy with the devices of others.
  const bare = new Set(doomed.filter(name => isBare(host, name)))
  if (bare.size > 0) await reapPorts([...bare])
  const rest = doomed.filter(name => !bare.has(name) && isDefunct(name))
  if (rest.length > 0) {
    const records = rest.flatMap(name => host.records.get(name)?.record ?? [])
    const failed = await deleteDevices(host, records, call)
    refusals.push(...failed.map(deviceRefused))
    await reapPorts(rest.filter(name => failed.every(({ name: left }) => left !== name)))
  }
  if (refusals.length > 0) throw refusals[0]
  return doomed.filter(name => !isDefunct(name))
}

/** As many with a port as go in one epoch, and all without one. */
function nextGroup(host: Host, names: readonly PortName[]): { readonly group: PortName[]; readonly rest: PortName[] } {
  const ports = names.filter(name => hasPort(host, name))
  const without = names.filter(name => !hasPort(host, name))
  return { group: [...without, ...ports.slice(0, portsPerEpoch)], rest: ports.slice(portsPerEpoch) }
}

function hasPort(host: Host, name: PortName): boolean {
  return portOfInterface(host.ovsdb.replica, name) !== undefined
}

/** Of a group that is refused each half is tried, so that one tap keeps none of the others. Resolves to why taps are left. */
async function reapGroup(host: Host, names: readonly PortName[], call: Call): Promise<unknown[]> {
  if (names.length === 0) return []
  const reconfigures = names.some(name => hasPort(host, name))
  try {
    await host.committer.commitApplied(removal(host, names, reconfigures), call)
    return []
  } catch (error) {
    if (problemOf(error)?.kind !== 'busy') throw error
    if (names.length === 1) return [error]
    const middle = Math.ceil(names.length / 2)
    const first = await reapGroup(host, names.slice(0, middle), call)
    return [...first, ...(await reapGroup(host, names.slice(middle), call))]
  }
}

function removal(host: Host, names: readonly PortName[], reconfigures: boolean): Part<void> {
  return {
    owns: [...names, ...bondsOf(host, names)],
    needs: [],
    reconfigures,
    write: (transaction, replica) => {
      const doomed = names.flatMap(name => host.records.get(name) ?? []).filter(({ record }) => record.defunct)
      removeTaps(host, transaction, replica, doomed)
      return () => {}
    },
  }
}

/**
 * Reaps all every 5 s, and full groups of ports as soon as their devices are gone, until the daemon ends. What fails is told, and
 * tried again 5 s later.
 */
export async function runReaper(host: Host, intervalMs = reapIntervalMs): Promise<void> {
  let isEager = true
  // Not of the wall clock, which may be set back.
  for (let dueMs = performance.now() + intervalMs; !host.lifetime.aborted; ) {
    await untilDue(host, dueMs, isEager)
    const isDue = performance.now() >= dueMs
    if (isDue) dueMs = performance.now() + intervalMs
    try {
      await reapBySelf(host, isDue ? [...host.records.defunct] : fullGroups(host))
      isEager = true
    } catch (error) {
      isEager = false
      dueMs = performance.now() + intervalMs
      if (!host.lifetime.aborted) host.notice('warn', 'reaping failed; trying again', { error })
    }
  }
}

async function reapBySelf(host: Host, names: readonly PortName[]): Promise<void> {
  if (host.ovsdb.status.state !== 'ready') return
  using scope = abortScope({ deadline: Date.now() + reapTimeoutMs + perTapMs * names.length, parents: [host.lifetime] })
  await reapInTurn(host, names, { signal: scope.signal, caller: 'reaper' })
}

/** Resolves at that time, or earlier when a group is full, if it is to be eager. */
async function untilDue(host: Host, dueMs: number, isEager: boolean): Promise<void> {
  using scope = abortScope({ deadline: Date.now() + dueMs - performance.now(), parents: [host.lifetime] })
  const isFull = () => isEager && fullGroups(host).length > 0
  // All that can be thrown is that the scope has ended, which is looked at here.
  while (!scope.signal.aborted && !isFull()) await host.bare.grown(scope.signal).catch(() => undefined)
}

/** Of the taps that have only their ports left, as many as make whole groups. */
function fullGroups(host: Host): PortName[] {
  if (host.ovsdb.status.state !== 'ready' || host.records.defunct.size < portsPerEpoch) return []
  const bare = [...host.records.defunct].filter(name => isBare(host, name) && hasPort(host, name))
  return bare.slice(0, bare.length - (bare.length % portsPerEpoch))
}
