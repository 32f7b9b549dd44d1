import type { Change } from '../ovsdb/index.js'
import type { OvsClient, OvsRows } from './ovs.js'
import { laterFormat, ownerOf } from './ownership.js'
import { format } from './ownership-keys.js'
import { recordedTap } from './ownership-tap.js'

/**
 * Calls `found` once a row of ours comes that a later version has written in a format that this one would misread, within the
 * update that brings it and before others hear of it, if it was called before them.
 */
export function watchFormat(ovsdb: OvsClient, instance: string, found: (error: Error) => void): Disposable {
  let isFound = false
  return ovsdb.subscribe(changes => {
    if (isFound) return
    for (const change of changes) {
      const later = laterIn(change, instance)
      if (later === undefined) continue
      isFound = true
      found(new Error(later))
      return
    }
  })
}

function laterIn(change: Change<OvsRows>, instance: string): string | undefined {
  if (change.kind === 'delete' || !('external_ids' in change.after)) return undefined
  const { external_ids: ids } = change.after
  const later = ownerOf(ids) === instance ? laterFormat(ids) : undefined
  if (later === undefined) return undefined
  const tap = recordedTap(instance, ids)
  const name = 'name' in change.after ? ` ${change.after.name}` : ''
  const row = tap === undefined ? `${change.table}${name}` : `the tap ${tap}`
  return `the database has records of format ${later} (${row}), which a later ovs-bridged has written; this one reads format ${format} and touches nothing: start the later one, or give this one another --instance`
}
