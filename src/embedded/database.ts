import { createHash } from 'node:crypto'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { callJsonRpc, isRecord } from '../lib/json-rpc.js'
import { EmbeddedError } from './errors.js'
import type { Layout } from './layout.js'
import type { Programs } from './programs.js'

/** What ovs-ctl(8) writes into `Open_vSwitch.ovs_version` and `db_version`. */
export interface Versions {
  /** Of the installed programs, such as `3.1.0`. */
  readonly openVswitch: string
  /** Of the database schema, such as `8.3.1`. */
  readonly schema: string
}

const databaseName = 'Open_vSwitch'

/**
 * Makes conf.db when there is none; whole or not at all. An empty standalone database is one record with the schema:
 * a line `OVSDB JSON <length> <SHA-1>` and that many bytes of JSON, its line end included (ovsdb(5), "Standalone
 * Format").
 */
export function createDatabase(layout: Layout, programs: Programs): void {
  if (existsSync(layout.database)) return
  const schema = `${JSON.stringify(installedSchema(programs))}\n`
  const hash = createHash('sha1').update(schema).digest('hex')
  const unfinished = `${layout.database}.new`
  writeFileSync(unfinished, `OVSDB JSON ${Buffer.byteLength(schema)} ${hash}\n${schema}`, { mode: 0o640 })
  renameSync(unfinished, layout.database)
}

/**
 * Brings a served database into the state that ovs-vswitchd expects to find: the schema of the installed programs,
 * the one row of `Open_vSwitch` with its versions, and `other_config` keys that only count before its start.
 * A key that the database already has keeps its value.
 */
export async function prepareDatabase(
  layout: Layout,
  programs: Programs,
  otherConfig: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<Versions> {
  const schema = await convertSchema(layout, programs, signal)
  const openVswitch = await programVersion(layout, signal)
  const rows = await transact(
    layout.databaseSocket,
    [{ op: 'select', table: databaseName, where: [], columns: ['_uuid'] }],
    signal,
  )
  if (rowsOf(rows[0]).length === 0) {
    await transact(layout.databaseSocket, [{ op: 'insert', table: databaseName, row: {} }], signal)
  }
  const versions = { ovs_version: openVswitch, db_version: schema }
  const mutations = [['other_config', 'insert', ['map', Object.entries(otherConfig)]]]
  await transact(
    layout.databaseSocket,
    [
      { op: 'update', table: databaseName, where: [], row: versions },
      { op: 'mutate', table: databaseName, where: [], mutations },
    ],
    signal,
  )
  return { openVswitch, schema }
}

/** Asks for a new configuration epoch (`next_cfg`, ovs-vswitchd.conf.db(5)) and returns it. */
export async function requestEpoch(databaseSocket: string, signal: AbortSignal): Promise<number> {
  const results = await transact(
    databaseSocket,
    [
      { op: 'mutate', table: databaseName, where: [], mutations: [['next_cfg', '+=', 1]] },
      { op: 'select', table: databaseName, where: [], columns: ['next_cfg'] },
    ],
    signal,
  )
  const epoch = rowsOf(results[1])[0]?.['next_cfg']
  if (typeof epoch !== 'number') throw new Error('the database has no row in Open_vSwitch')
  return epoch
}

/** Resolves once ovs-vswitchd has put `epoch` into effect (`cur_cfg`). */
export async function epochReached(databaseSocket: string, epoch: number, signal: AbortSignal): Promise<void> {
  const where = [['cur_cfg', '>=', epoch]]
  // RFC 7047 §5.2.6. Shorter than the server's inactivity probe, which this connection does not answer.
  const wait = { op: 'wait', table: databaseName, where, columns: ['cur_cfg'], until: '!=', rows: [], timeout: 3000 }
  for (;;) {
    const reply = await callJsonRpc(databaseSocket, 'transact', [databaseName, wait], signal)
    const result: unknown = Array.isArray(reply) ? reply[0] : undefined
    if (!isRecord(result)) throw new Error(`ovsdb-server answered a wait with ${JSON.stringify(reply)}`)
    if (result['error'] === undefined) return
    if (result['error'] !== 'timed out') throw new Error(`ovsdb-server: ${JSON.stringify(result)}`)
  }
}

/** `transact` (RFC 7047 §4.1.3) that rejects when any operation or the commit failed. */
export async function transact(
  databaseSocket: string,
  operations: readonly unknown[],
  signal: AbortSignal,
): Promise<readonly unknown[]> {
  const reply = await callJsonRpc(databaseSocket, 'transact', [databaseName, ...operations], signal)
  if (!Array.isArray(reply)) throw new Error(`ovsdb-server answered a transaction with ${JSON.stringify(reply)}`)
  const results: readonly unknown[] = reply
  const failed = results.find(result => isRecord(result) && typeof result['error'] === 'string')
  if (failed !== undefined) throw new Error(`ovsdb-server refused a transaction: ${JSON.stringify(failed)}`)
  return results
}

/** The rows of one `select` result. */
export function rowsOf(result: unknown): readonly Readonly<Record<string, unknown>>[] {
  const rows: unknown = isRecord(result) ? result['rows'] : undefined
  return Array.isArray(rows) ? rows.filter(isRecord) : []
}

/** Converts the data to the installed schema when a package upgrade brought another; returns its version. */
async function convertSchema(layout: Layout, programs: Programs, signal: AbortSignal): Promise<string> {
  const installed = installedSchema(programs)
  const served = await callJsonRpc(layout.databaseSocket, 'get_schema', [databaseName], signal)
  if (!isRecord(served) || served['version'] !== installed.version || served['cksum'] !== installed['cksum']) {
    await callJsonRpc(layout.databaseSocket, 'convert', [databaseName, installed], signal)
  }
  return installed.version
}

function installedSchema(programs: Programs): Readonly<Record<string, unknown>> & { readonly version: string } {
  const schema: unknown = JSON.parse(readFileSync(programs.schema, 'utf8'))
  if (isRecord(schema) && typeof schema['version'] === 'string') return { ...schema, version: schema['version'] }
  throw new EmbeddedError({ kind: 'bad-database', path: programs.schema, detail: 'this is no OVSDB schema' })
}

/** unixctl `version` answers `ovsdb-server (Open vSwitch) 3.1.0`. */
async function programVersion(layout: Layout, signal: AbortSignal): Promise<string> {
  const text = await callJsonRpc(layout.ovsdbServer.control, 'version', [], signal)
  return (typeof text === 'string' ? /\(Open vSwitch\) (\S+)/.exec(text)?.[1] : undefined) ?? 'unknown'
}
