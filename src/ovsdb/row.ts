import { OvsdbError, protocolError } from './errors.js'
import { isRecord } from './json.js'
import { applyDifference, type Decoder, decoderOf, defaultValue, isUuid, type Uuid, type Value } from './notation.js'
import type { ColumnSchema } from './schema.js'

/** A row whose columns only the schema knows. */
export interface Row {
  readonly _uuid: Uuid
  readonly [column: string]: Value
}

/** One that is being made. */
type MutableRow = { _uuid: Uuid; [column: string]: Value }

/** One column, ready to be read often. */
export interface ColumnReader {
  readonly name: string
  readonly schema: ColumnSchema
  readonly decode: Decoder
}

/** Columns of one table, ready to be read often. */
export interface RowReader {
  readonly columns: ReadonlyMap<string, ColumnReader>
  /** A row that says nothing. Rows share these values: most columns of most rows are as they are here. */
  readonly defaults: Row
}

export function rowReader(schemas: Readonly<Record<string, ColumnSchema>>): RowReader {
  const columns = new Map<string, ColumnReader>()
  for (const [name, schema] of Object.entries(schemas)) columns.set(name, { name, schema, decode: decoderOf(schema) })
  return { columns, defaults: defaultRow(schemas) }
}

// V8 makes a slow and large hash table of an object to which many names are added one by one, but not of one read from JSON.
function defaultRow(schemas: Readonly<Record<string, ColumnSchema>>): Row {
  const blank = JSON.stringify(Object.fromEntries(['_uuid', ...Object.keys(schemas)].map(name => [name, null])))
  const row = typed<MutableRow>(JSON.parse(blank))
  for (const [name, schema] of Object.entries(schemas)) row[name] = defaultValue(schema)
  return row
}

/** Reads a `<row>` (RFC 7047 §5.1). A column that it leaves out takes its default; one that nobody reads is passed over. */
export function decodeRow({ columns, defaults }: RowReader, uuid: Uuid, json: unknown): Row {
  if (!isRecord(json)) throw protocolError('a row is not an object')
  const row: MutableRow = { ...defaults }
  row._uuid = uuid
  for (const name in json) {
    const column = columns.get(name)
    if (column !== undefined) row[name] = decodeColumn(column, json[name])
  }
  return row
}

/** `before` with the columns that `json` changes, each told as a difference (ovsdb-server(7), "Update2 Notification"). */
export function modifyRow({ columns }: RowReader, before: Row, json: unknown): Row {
  if (!isRecord(json)) throw protocolError('a difference is not an object')
  const row: MutableRow = { ...before }
  for (const name in json) {
    const column = columns.get(name)
    if (column !== undefined) row[name] = applyDifference(column.schema, before[name], decodeColumn(column, json[name]))
  }
  return row
}

function decodeColumn({ name, decode }: ColumnReader, json: unknown): Value {
  try {
    return decode(json)
  } catch (cause) {
    if (!(cause instanceof OvsdbError)) throw cause
    throw protocolError(`column ${name}: ${cause.message}`, { cause })
  }
}

/** Reads the `_uuid` column. */
export function decodeUuid(json: unknown): Uuid {
  const uuid: unknown = Array.isArray(json) && json[0] === 'uuid' ? json[1] : undefined
  if (!isUuid(uuid)) throw protocolError('a row has no uuid')
  return uuid
}

/**
 * A row as the interface that was generated from the same schema.
 * The one place where the two meet: {@link decodeRow} has checked every column against that schema.
 */
export function typed<R>(decoded: unknown): R {
  return decoded as R
}
