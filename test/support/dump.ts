import { rowsOf, transact } from '../../src/embedded/database.js'
import { callJsonRpc, isRecord } from '../../src/lib/json-rpc.js'

/**
 * The lasting content of a database, equal for two databases that say the same: uuids give way to the names of the
 * rows, or to the rows themselves where they have none.
 */
export type Dump = Readonly<Record<string, readonly unknown[]>>

type Row = Readonly<Record<string, unknown>>

/** Written by ovs-vswitchd on its own, without being marked ephemeral; see ovs-vswitchd.conf.db(5). */
const VOLATILE: Readonly<Record<string, readonly string[]>> = {
  Open_vSwitch: [
    'cur_cfg',
    'next_cfg',
    'datapath_types',
    'iface_types',
    'dpdk_initialized',
    'dpdk_version',
    'datapaths',
  ],
  Bridge: ['datapath_id', 'datapath_version', 'rstp_status', 'status'],
  Port: ['bond_active_slave', 'rstp_statistics', 'rstp_status', 'statistics', 'status'],
  Interface: ['ofport', 'mac_in_use', 'mtu', 'link_speed', 'duplex', 'admin_state', 'link_state', 'ifindex', 'error'],
  Mirror: ['statistics'],
}

/** Reads all tables in one transaction. */
export async function dumpDatabase(socketPath: string, signal: AbortSignal): Promise<Dump> {
  const schema = await callJsonRpc(socketPath, 'get_schema', ['Open_vSwitch'], signal)
  const tables = isRecord(schema) && isRecord(schema['tables']) ? Object.entries(schema['tables']) : []
  const columns = new Map(tables.map(([table, description]) => [table, lastingColumns(table, description)]))
  const selects = [...columns].map(([table, names]) => ({
    op: 'select',
    table,
    where: [],
    columns: ['_uuid', ...names],
  }))
  const results = await transact(socketPath, selects, signal)
  const rows = new Map<string, { readonly table: string; readonly row: Row }>()
  for (const [i, table] of [...columns.keys()].entries()) {
    for (const row of rowsOf(results[i])) rows.set(uuidOf(row['_uuid']) ?? '', { table, row })
  }
  const dump: Record<string, unknown[]> = {}
  for (const { table, row } of rows.values())
    (dump[table] ??= []).push(canonicalRow(row, rows, [uuidOf(row['_uuid']) ?? '']))
  for (const list of Object.values(dump)) list.sort((a, b) => compare(JSON.stringify(a), JSON.stringify(b)))
  return dump
}

function lastingColumns(table: string, description: unknown): string[] {
  const columns =
    isRecord(description) && isRecord(description['columns']) ? Object.entries(description['columns']) : []
  return columns
    .filter(([name, column]) => !(isRecord(column) && column['ephemeral'] === true) && !VOLATILE[table]?.includes(name))
    .map(([name]) => name)
    .sort()
}

type Rows = ReadonlyMap<string, { readonly table: string; readonly row: Row }>

function canonicalRow(row: Row, rows: Rows, path: readonly string[]): Row {
  const { _uuid, ...columns } = row
  return Object.fromEntries(Object.entries(columns).map(([name, value]) => [name, canonical(value, rows, path)]))
}

/** A value of RFC 7047 §5.1 with its uuids replaced and its sets and maps in order. */
function canonical(value: unknown, rows: Rows, path: readonly string[]): unknown {
  if (!Array.isArray(value)) return value
  const uuid = uuidOf(value)
  if (uuid !== undefined) return reference(uuid, rows, path)
  const pair: readonly unknown[] = value
  const [tag, items] = pair
  if (tag === 'set' && Array.isArray(items)) return ['set', sorted(items.map(item => canonical(item, rows, path)))]
  if (tag === 'map' && Array.isArray(items)) {
    return [
      'map',
      sorted(items.filter(isLasting).map(entry => elements(entry).map(half => canonical(half, rows, path)))),
    ]
  }
  return value
}

/** What a tap's endpoint has said of its address is written down some time later; each transaction has another name. */
function isLasting(entry: unknown): boolean {
  const key = String(elements(entry)[0])
  return key !== 'ovs-bridged:addresses' && !/^ovs-bridged:.*:last-transaction$/.test(key)
}

function reference(uuid: string, rows: Rows, path: readonly string[]): unknown {
  const target = rows.get(uuid)
  if (target === undefined) return 'dangling'
  const { name } = target.row
  if (typeof name === 'string') return `${target.table} ${name}`
  // Rows without a name may refer back, as a Mirror's port does.
  if (path.includes(uuid)) return `${target.table} above`
  return { [target.table]: canonicalRow(target.row, rows, [...path, uuid]) }
}

function elements(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

function uuidOf(value: unknown): string | undefined {
  return Array.isArray(value) && value[0] === 'uuid' && typeof value[1] === 'string' ? value[1] : undefined
}

function sorted(items: readonly unknown[]): readonly unknown[] {
  return [...items].sort((a, b) => compare(JSON.stringify(a), JSON.stringify(b)))
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
