import { OvsdbError, protocolError } from './errors.js'
import { isRecord } from './json.js'
import { type Decoder, decoderOf, defaultValue, isUuid, type Uuid, type Value } from './notation.js'
import type { ColumnSchema } from './schema.js'

/** A row whose columns only the schema knows. */
export interface Row {
  readonly _uuid: Uuid
  readonly [column: string]: Value
}

/** One column, ready to be read often. */
export interface ColumnReader {
  readonly name: string
  readonly schema: ColumnSchema
  readonly decode: Decoder
}

export function columnReader(name: string, schema: ColumnSchema): ColumnReader {
  return { name, schema, decode: decoderOf(schema) }
}

/** Reads a `<row>` (RFC 7047 §5.1). A column that it leaves out takes its default. */
export function decodeRow(columns: readonly ColumnReader[], uuid: Uuid, json: unknown): Row {
  if (!isRecord(json)) throw protocolError('a row is not an object')
  // Filled in one order, so that all rows of a table share one layout in memory.
  const row: { _uuid: Uuid; [column: string]: Value } = { _uuid: uuid }
  for (const column of columns) {
    const value = json[column.name]
    row[column.name] = value === undefined ? defaultValue(column.schema) : decodeColumn(column, value)
  }
  return row
}

export function decodeColumn({ name, decode }: ColumnReader, json: unknown): Value {
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
