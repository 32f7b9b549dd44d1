import { assertNever } from '../lib/assert-never.js'
import { OvsdbError, protocolError } from './errors.js'
import { excerpt, isArray, isRecord, type Json } from './json.js'
import { isUuid, type Uuid } from './notation.js'
import type { Rpc } from './rpc.js'

/** The ways to monitor, newest first (RFC 7047 §4.1.5; ovsdb-server(7), "Monitor Cond" and "Monitor Cond Since"). */
export type MonitorMethod = 'monitor_cond_since' | 'monitor_cond' | 'monitor'

/** What became of one row, whichever way it was told. `row` holds columns as the wire has them. */
export type RowUpdate = { readonly table: string; readonly uuid: Uuid } & RowChange

type RowChange =
  /** It has these values now; a column that is left out has its default. */
  | { readonly kind: 'row'; readonly row: unknown }
  /** As `row`, of a row that was not there before. */
  | { readonly kind: 'insert'; readonly row: unknown }
  /** Differences to the columns that changed; see `applyDifference`. */
  | { readonly kind: 'modify'; readonly difference: unknown }
  | { readonly kind: 'delete' }

const methods: readonly MonitorMethod[] = ['monitor_cond_since', 'monitor_cond', 'monitor']
export const noTransaction = '00000000-0000-0000-0000-000000000000'

/** What is to be followed of one database. */
export interface MonitorWish {
  readonly database: string
  /** Tells this monitor's updates from others' on the same connection. */
  readonly id: string
  readonly columns: ReadonlyMap<string, readonly string[]>
  /** By table, the `<where>` that rows have to meet; all rows of a table that is not there. `monitor` alone knows none. */
  readonly where: ReadonlyMap<string, readonly Json[]>
  /** The transaction that is known already; a server that keeps a history then tells what came after it. */
  readonly since: string
}

/** Where a monitor begins. */
export interface MonitorStart {
  readonly method: MonitorMethod
  /** `updates` are all there is; otherwise what came after the transaction that was known. */
  readonly isWhole: boolean
  readonly updates: readonly RowUpdate[]
  /** The transaction that `updates` lead to, where the server keeps a history. */
  readonly lastId: string
}

/** Starts to monitor in the newest way that the server knows. `read` takes the beginning in before any update that follows it. */
export async function startMonitor(rpc: Rpc, wish: MonitorWish, read: (start: MonitorStart) => void): Promise<void> {
  const { database, id } = wish
  for (const method of methods) {
    const since = method === 'monitor_cond_since' ? [wish.since] : []
    const requests = monitorRequests(wish, method)
    try {
      return await rpc.request(method, [database, id, requests, ...since], answer => read(parseStart(method, answer)))
    } catch (error) {
      if (!isRefused(error, 'unknown method')) throw error
    }
  }
  throw protocolError('the server knows no way to monitor')
}

/** RFC 7047 §4.1.5, `<monitor-requests>`, with the `where` of ovsdb-server(7), "Monitor Cond". */
function monitorRequests({ columns, where }: MonitorWish, method: MonitorMethod): Json {
  return Object.fromEntries(
    [...columns].map(([table, names]): [string, Json] => {
      const conditions = method === 'monitor' ? undefined : where.get(table)
      return [table, [{ columns: names, ...(conditions === undefined ? {} : { where: conditions }) }]]
    }),
  )
}

/**
 * Changes what rows of a table are followed (ovsdb-server(7), "Monitor Cond Change"). What this adds and removes is
 * told before it resolves.
 */
export async function changeConditions(rpc: Rpc, id: string, where: ReadonlyMap<string, readonly Json[]>) {
  const changes = [...where].map(([table, conditions]): [string, Json] => [table, [{ where: conditions }]])
  await rpc.request('monitor_cond_change', [id, id, Object.fromEntries(changes)])
}

/** Whether the server refused a call; with this error, if one is named. */
export function isRefused(error: unknown, name?: string): boolean {
  if (!(error instanceof OvsdbError) || error.problem.kind !== 'rejected') return false
  return name === undefined || error.problem.error === name
}

function parseStart(method: MonitorMethod, answer: unknown): MonitorStart {
  const whole = { method, isWhole: true, lastId: noTransaction }
  switch (method) {
    case 'monitor_cond_since': {
      const [found, lastId, updates] = isArray(answer) ? answer : []
      return { method, isWhole: found !== true, lastId: idOf(lastId), updates: parseUpdates2(updates) }
    }
    case 'monitor_cond':
      return { ...whole, updates: parseUpdates2(answer) }
    case 'monitor':
      return { ...whole, updates: parseUpdates1(answer) }
    default:
      return assertNever(method)
  }
}

function idOf(lastId: unknown): string {
  return isUuid(lastId) ? lastId : noTransaction
}

/** A notification of what changed. */
export interface MonitorUpdate {
  /** Of the monitor that it belongs to. */
  readonly id: unknown
  readonly updates: readonly RowUpdate[]
  /** The transaction that did it, where the server keeps a history. */
  readonly lastId: string
}

/** Reads an `update`, `update2` or `update3`; undefined for any other notification. */
export function parseUpdate(method: string, params: readonly unknown[]): MonitorUpdate | undefined {
  const [id, second, third] = params
  switch (method) {
    case 'update':
      return { id, updates: parseUpdates1(second), lastId: noTransaction }
    case 'update2':
      return { id, updates: parseUpdates2(second), lastId: noTransaction }
    case 'update3':
      return { id, updates: parseUpdates2(third), lastId: idOf(second) }
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
    if (change['insert'] !== undefined) return { table, uuid, kind: 'insert', row: change['insert'] }
    return { table, uuid, kind: 'row', row: change['initial'] }
  })
}

function parseRows(
  json: unknown,
  parse: (change: Readonly<Record<string, unknown>>, table: string, uuid: Uuid) => RowUpdate,
): RowUpdate[] {
  const updates: RowUpdate[] = []
  const tables = tableUpdates(json)
  for (const table in tables) {
    const rows = tableUpdates(tables[table])
    for (const uuid in rows) {
      const change = rows[uuid]
      if (!isUuid(uuid) || !isRecord(change))
        throw protocolError(`a bad row in an update of ${table}: ${excerpt(uuid)}`)
      updates.push(parse(change, table, uuid))
    }
  }
  return updates
}

function tableUpdates(json: unknown): Readonly<Record<string, unknown>> {
  if (!isRecord(json)) throw protocolError(`expected table updates, got ${excerpt(json)}`)
  return json
}
