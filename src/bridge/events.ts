import { isDeepStrictEqual } from 'node:util'
import type { ChangeLog, Change as LogChange, View } from '../lib/fanout.js'
import type { Change } from '../ovsdb/index.js'
import { type AddressEntry, isNews } from './address-entry.js'
import { newChangeLog } from './change-log.js'
import type { Host } from './host.js'
import { isWithin, type Tap, type TapScope, tapOf } from './inventory.js'
import type { OvsReplica, OvsRows } from './ovs.js'
import { recordedTap } from './ownership-tap.js'

/** Equal for scopes that take in the same taps, whatever these are. */
export function scopeId({ bridge, kind, vlan, taps }: TapScope): string {
  return JSON.stringify([bridge, kind, vlan, taps && [...taps].sort()])
}

export function viewOf(scope: TapScope): View<Tap> {
  return { id: scopeId(scope), includes: tap => isWithin(scope, tap) }
}

/** Of the addresses that were seen in a VLAN, on which taps ever. That one was seen again is not told. */
export function addressViewOf(scope: TapScope): View<AddressEntry> {
  return {
    id: scopeId(scope),
    includes: entry => isWithin(scope, entry),
    tells: (before, after) => isNews(before, after) || isNewRival(before, after),
  }
}

/** Whether another tap has been found with the same address or MAC. */
export function isNewRival(before: AddressEntry | undefined, after: AddressEntry): boolean {
  return after.rival !== undefined && after.rival !== before?.rival
}

/** The taps that are not defunct, with what became of them lately. */
export interface TapFeed extends Disposable {
  readonly log: ChangeLog<Tap>
  /** Looks again at taps of which something has changed that does not stand in the database. */
  touch(names: Iterable<string>): void
}

/** Follows the replica until it is disposed of. `host.records` must follow it already. */
export function openTapFeed(host: Host): TapFeed {
  const log = newChangeLog<Tap>()
  const touch = (names: Iterable<string>) => {
    const changes: LogChange<Tap>[] = []
    for (const name of names) {
      const change = tapChange(name, log.get(name), shownTap(host, name))
      if (change !== undefined) changes.push(change)
    }
    log.publish(changes)
  }
  const following = host.ovsdb.subscribe(changes => touch(affectedTaps(host.instance, changes, host.ovsdb.replica)))
  const learning = host.addresses.subscribe(touch)
  touch(Array.from(host.records.all(), ({ record }) => record.name))
  return {
    log,
    touch,
    [Symbol.dispose]: () => {
      following[Symbol.dispose]()
      learning[Symbol.dispose]()
    },
  }
}

function shownTap(host: Host, name: string): Tap | undefined {
  const kept = host.records.get(name)
  return kept === undefined || kept.record.defunct ? undefined : tapOf(host, kept.record)
}

/** What became of a tap; undefined: nothing. */
export function tapChange<T>(key: string, before: T | undefined, after: T | undefined): LogChange<T> | undefined {
  return isDeepStrictEqual(before, after) ? undefined : { key, before, after }
}

/** Names of the taps of which a transaction may have changed anything that is shown, and of ports that are none. */
export function affectedTaps(
  instance: string,
  changes: readonly Change<OvsRows>[],
  replica: Pick<OvsReplica, 'get'>,
): ReadonlySet<string> {
  const names = new Set<string>()
  for (const change of changes) {
    if (change.table === 'Interface') {
      if (!onlyStatistics(change)) for (const { name } of versions(change)) names.add(name)
    } else if (change.table === 'QoS') {
      for (const { external_ids } of versions(change)) {
        const name = recordedTap(instance, external_ids)
        if (name !== undefined) names.add(name)
      }
    } else if (change.table === 'Port') {
      for (const { interfaces } of versions(change)) {
        for (const uuid of interfaces) {
          const name = replica.get('Interface', uuid)?.name
          if (name !== undefined) names.add(name)
        }
      }
    }
  }
  return names
}

type RowChange<K extends keyof OvsRows> = Extract<Change<OvsRows>, { readonly table: K }>

/** A row as it was and as it is. */
function versions<R>({ before, after }: { readonly before?: R; readonly after?: R }): R[] {
  return [before, after].filter(row => row !== undefined)
}

/** ovs-vswitchd's own report, every 5 s of every interface. */
export function onlyStatistics(change: RowChange<'Interface'>): boolean {
  if (change.kind !== 'modify') return false
  const before: Readonly<Record<string, unknown>> = change.before
  const after: Readonly<Record<string, unknown>> = change.after
  // Of thousands of rows at once: a column that the update does not name is the same object still.
  for (const key in after) {
    if (key === 'statistics' || before[key] === after[key]) continue
    if (!isDeepStrictEqual(before[key], after[key])) return false
  }
  return true
}
