import { isRecord } from '../lib/json-rpc.js'

/** What a log of the database tells about the devices that ovs-vswitchd made for it on the userspace datapath. */
export interface InternalDevices {
  /** Those it still asks for: ovs-vswitchd takes them up again, with their addresses. */
  readonly wanted: readonly string[]
  /** Those it once asked for; a dead ovs-vswitchd may have had no time to remove them. */
  readonly unwanted: readonly string[]
}

/** The device of the userspace datapath itself; there is one as soon as there is a bridge with it. */
const datapathDevice = 'ovs-netdev'

interface Row {
  readonly name: string
  readonly internal: boolean
}

/**
 * Reads a standalone conf.db (ovsdb(5), "Standalone and Active-Backup Databases": one JSON record per transaction;
 * rows that are `null` were deleted). A deletion reaches the log before ovs-vswitchd acts on it, so the log knows
 * the names that the tables no longer do, up to the last compaction.
 */
export function internalDevices(log: string): InternalDevices {
  const live = new Map<string, Row>()
  const userspaceBridges = new Set<string>()
  const everSeen = new Set<string>()
  for (const record of transactions(log)) {
    for (const [uuid, row] of rowsOf(record, 'Interface')) {
      const next = apply(live.get(uuid), row)
      if (next === undefined) live.delete(uuid)
      else live.set(uuid, next)
      if (next?.internal) everSeen.add(next.name)
    }
    for (const [uuid, row] of rowsOf(record, 'Bridge')) {
      if (!isRecord(row)) userspaceBridges.delete(uuid)
      else if (row['datapath_type'] === 'netdev') userspaceBridges.add(uuid)
      else if (row['datapath_type'] !== undefined) userspaceBridges.delete(uuid)
    }
  }
  const wanted = [...live.values()].filter(row => row.internal).map(row => row.name)
  if (userspaceBridges.size > 0) wanted.push(datapathDevice)
  // A live row that is not internal is about a device that others made.
  const spoken = new Set([...wanted, ...Array.from(live.values(), row => row.name)])
  const unwanted = [...everSeen, datapathDevice].filter(name => !spoken.has(name))
  return { wanted, unwanted }
}

/** An interface row after one record: an inserted row has its whole, a changed one only what changed. */
function apply(before: Row | undefined, row: unknown): Row | undefined {
  if (!isRecord(row)) return undefined
  const name = typeof row['name'] === 'string' ? row['name'] : (before?.name ?? '')
  const type = row['type']
  return { name, internal: type === undefined ? (before?.internal ?? false) : type === 'internal' }
}

function* transactions(log: string): Generator<Readonly<Record<string, unknown>>> {
  for (const line of log.split('\n')) {
    if (!line.startsWith('{')) continue
    const record = parse(line)
    // The schema is a record too; its tables hold no rows.
    if (record !== undefined && record['tables'] === undefined) yield record
  }
}

/** Undefined for the last record of a log that was cut short. */
function parse(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line)
    return isRecord(value) ? value : undefined
  } catch {
    return undefined
  }
}

function rowsOf(record: Readonly<Record<string, unknown>>, table: string): readonly [string, unknown][] {
  const rows = record[table]
  return isRecord(rows) ? Object.entries(rows) : []
}
