import { assertNever } from '../lib/assert-never.js'
import { OvsdbError, protocolError } from './errors.js'
import { excerpt, isArray, isRecord, type Json } from './json.js'
import { isUuid, type Uuid } from './notation.js'
import type { Rpc } from './rpc.js'

/** The ways to monitor, newest first (RFC 7047 §4.1.5; ovsdb-server(7), "Monitor Cond" and "Monitor Cond Since"). */
export type MonitorMethod = 'monitor_cond_since' | 'monitor_cond' | 'monitor'

/** What became of one row, whichever way it was told. `row` holds columns as the wire has them. */
export type RowUpdate = {
  readonly table: string
  readonly uuid: Uuid
} /** It has these values now; a column that is left out has its default. */ & (
  | { readonly kind: 'row'; readonly row: unknown }
  /** Differences to the columns that changed; see `applyDifference`. */
  | { readonly kind: 'modify'; readonly difference: unknown }
  | { readonly kind: 'delete' }
)

const methods: readonly MonitorMethod[] = ['monitor_cond_since', 'monitor_cond', 'monitor']
const noTransaction = '00000000-0000-0000-0000-000000000000'

/** Starts to monitor in the newest way that the server knows. The dump of what there is comes with the answer. */
export async function startMonitor(
  rpc: Rpc,
  database: string,
  monitorId: string,
  columns: ReadonlyMap<string, readonly string[]>,
): Promise<{ method: MonitorMethod; dump: RowUpdate[] }> {
  const requests = Object.fromEntries(
    [...columns].map(([table, names]): [string, Json] => [table, [{ columns: names }]]),
  )
  for (const method of methods) {
    const since = method === 'monitor_cond_since' ? [noTransaction] : []
    try {
      const answer = await rpc.request(method, [database, monitorId, requests, ...since])
      return { method, dump: parseDump(method, answer) }
    } catch (error) {
      if (!isUnknownMethod(error)) throw error
    }
  }
  throw protocolError('the server knows no way to monitor')
}

function isUnknownMethod(error: unknown): boolean {
  return error instanceof OvsdbError && error.problem.kind === 'rejected' && error.problem.error === 'unknown method'
}

function parseDump(method: MonitorMethod, answer: unknown): RowUpdate[] {
  switch (method) {
    case 'monitor_cond_since':
      // A standalone server keeps no history: whatever it found, the third element is a dump.
      return parseUpdates2(isArray(answer) ? answer[2] : undefined)
    case 'monitor_cond':
      return parseUpdates2(answer)
    case 'monitor':
      return parseUpdates1(answer)
    default:
      return assertNever(method)
  }
}

/** The rows of an `update`, `update2` or `update3` of `monitorId`; undefined for any other notification. */
export function parseUpdate(monitorId: string, method: string, params: readonly unknown[]): RowUpdate[] | undefined {
  if (params[0] !== monitorId) return undefined
  switch (method) {
    case 'update':
      return parseUpdates1(params[1])
    case 'update2':
      return parseUpdates2(params[1])
    case 'update3':
      return parseUpdates2(params[2])
    default:
      return undefined
  }
}

function parseUpdates1(json: unknown): RowUpdate[] {
  return parseRows(json, ({ new: row }, table, uuid) =>
    row === undefined ? { table, uuid, kind: 'delete' } : { table, uuid, kind: 'row', row },
  )
}

function parseUpdates2(json: unknown): RowUpdate[] {
  return parseRows(json, (change, table, uuid) => {
    if (change['modify'] !== undefined) return { table, uuid, kind: 'modify', difference: change['modify'] }
    if (change['delete'] !== undefined) return { table, uuid, kind: 'delete' }
    return { table, uuid, kind: 'row', row: change['initial'] ?? change['insert'] }
  })
}

function parseRows(
  json: unknown,
  parse: (change: Readonly<Record<string, unknown>>, table: string, uuid: Uuid) => RowUpdate,
): RowUpdate[] {
  const updates: RowUpdate[] = []
  for (const [table, rows] of entriesOf(json)) {
    for (const [uuid, change] of entriesOf(rows)) {
      if (!isUuid(uuid) || !isRecord(change))
        throw protocolError(`a bad row in an update of ${table}: ${excerpt(uuid)}`)
      updates.push(parse(change, table, uuid))
    }
  }
  return updates
}

function entriesOf(json: unknown): [string, unknown][] {
  if (!isRecord(json)) throw protocolError(`expected table updates, got ${excerpt(json)}`)
  return Object.entries(json)
}
