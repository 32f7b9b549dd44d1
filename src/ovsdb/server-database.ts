import { isRecord } from './json.js'
import type { RowUpdate } from './monitor.js'
import type { Uuid } from './notation.js'

/** What a server says of one of its databases (ovsdb-server(5), `Database` of the `_Server` database). */
interface ServedDatabase {
  readonly name: unknown
  /** False while a clustered database has no quorum. */
  readonly connected: unknown
}

/** The databases of a server by their rows, as far as they have been told. */
export type ServedDatabases = ReadonlyMap<Uuid, ServedDatabase>

export const serverColumns: ReadonlyMap<string, readonly string[]> = new Map([['Database', ['name', 'connected']]])

/** What `updates` make of the databases that were served `before`. */
export function servedAfter(before: ServedDatabases, updates: readonly RowUpdate[]): ServedDatabases {
  const after = new Map(before)
  for (const update of updates) {
    if (update.kind === 'delete') after.delete(update.uuid)
    else {
      const told = update.kind === 'modify' ? update.difference : update.row
      const known = update.kind === 'modify' ? before.get(update.uuid) : undefined
      if (isRecord(told)) after.set(update.uuid, { name: known?.name, connected: known?.connected, ...told })
    }
  }
  return after
}

export function isServed(databases: ServedDatabases, name: string): boolean {
  return [...databases.values()].some(database => database.name === name && database.connected === true)
}
