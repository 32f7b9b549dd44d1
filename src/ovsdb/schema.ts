import { protocolError } from './errors.js'
import { isArray, isRecord } from './json.js'

/** RFC 7047 §3.2, `<atomic-type>`. */
export type AtomicType = 'integer' | 'real' | 'boolean' | 'string' | 'uuid'

/** One of the values that an `enum` allows. */
export type Choice = string | number | bigint | boolean

/** RFC 7047 §3.2, `<base-type>`. */
export interface BaseType {
  readonly type: AtomicType
  readonly enum?: readonly Choice[]
  readonly minInteger?: number | bigint
  readonly maxInteger?: number | bigint
  readonly minReal?: number
  readonly maxReal?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly refTable?: string
  readonly refType?: 'strong' | 'weak'
}

/** RFC 7047 §3.2, `<column-schema>`, its `<type>` written out. With `value` the column is a map. */
export interface ColumnSchema {
  readonly key: BaseType
  readonly value?: BaseType
  readonly min: 0 | 1
  /** `Infinity` when unlimited. */
  readonly max: number
  readonly ephemeral: boolean
  readonly mutable: boolean
}

/** RFC 7047 §3.2, `<table-schema>`. */
export interface TableSchema {
  readonly columns: Readonly<Record<string, ColumnSchema>>
  readonly indexes: readonly (readonly string[])[]
  /** A row stays without a reference to it. So it does in every table of a schema that names no root. */
  readonly isRoot: boolean
  readonly maxRows: number
}

declare const rows: unique symbol

/** RFC 7047 §3.2, `<database-schema>`. `T` is the interface of its rows by table, as the generator wrote it. */
export interface DatabaseSchema<T = unknown> {
  readonly name: string
  readonly version: string
  readonly tables: Readonly<Record<string, TableSchema>>
  readonly [rows]?: T
}

/**
 * Reads a `<database-schema>`. Throws `protocol` for anything else.
 * That its tables are those of `T` is the caller's word.
 */
export function parseSchema<T>(json: unknown): DatabaseSchema<T> {
  const { name, version, tables } = record(json, 'database schema')
  const parsed = mapValues(record(tables, 'tables'), parseTable)
  const hasRoots = Object.values(parsed).some(({ isRoot }) => isRoot)
  return {
    name: text(name, 'name'),
    version: text(version, 'version'),
    tables: hasRoots ? parsed : mapValues(parsed, table => ({ ...table, isRoot: true })),
  }
}

function parseTable(json: unknown): TableSchema {
  const { columns, indexes = [], isRoot = false, maxRows = Number.POSITIVE_INFINITY } = record(json, 'table schema')
  return {
    columns: mapValues(record(columns, 'columns'), parseColumn),
    indexes: list(indexes, 'indexes').map(index => list(index, 'index').map(column => text(column, 'column'))),
    isRoot: isRoot === true,
    maxRows: Number(maxRows),
  }
}

function parseColumn(json: unknown): ColumnSchema {
  const { type, ephemeral = false, mutable = true } = record(json, 'column schema')
  const full = typeof type === 'string' ? { key: type } : record(type, 'type')
  const { key, value, min = 1, max = 1 } = full
  return {
    key: parseBase(key),
    ...(value === undefined ? {} : { value: parseBase(value) }),
    min: min === 0 ? 0 : 1,
    max: max === 'unlimited' ? Number.POSITIVE_INFINITY : Number(max),
    ephemeral: ephemeral === true,
    mutable: mutable !== false,
  }
}

const limits = ['minInteger', 'maxInteger', 'minReal', 'maxReal', 'minLength', 'maxLength'] as const

function parseBase(json: unknown): BaseType {
  const base = typeof json === 'string' ? { type: json } : record(json, 'base type')
  const given = limits.flatMap(limit => (base[limit] === undefined ? [] : [[limit, base[limit]] as const]))
  return {
    type: atomicType(base['type']),
    ...Object.fromEntries(given),
    ...(base['refTable'] === undefined ? {} : { refTable: text(base['refTable'], 'refTable') }),
    ...(base['refTable'] === undefined ? {} : { refType: base['refType'] === 'weak' ? 'weak' : 'strong' }),
    ...(base['enum'] === undefined ? {} : { enum: choices(base['enum']) }),
  }
}

function choices(json: unknown): readonly Choice[] {
  const elements = isArray(json) && json[0] === 'set' ? list(json[1], 'enum') : [json]
  return elements.filter(isPlainAtom)
}

function isPlainAtom(json: unknown): json is Choice {
  return ['string', 'number', 'bigint', 'boolean'].includes(typeof json)
}

function atomicType(json: unknown): AtomicType {
  switch (json) {
    case 'integer':
    case 'real':
    case 'boolean':
    case 'string':
    case 'uuid':
      return json
    default:
      throw protocolError(`the schema has a column of the unknown type ${String(json)}`)
  }
}

function record(json: unknown, what: string): Readonly<Record<string, unknown>> {
  if (!isRecord(json)) throw protocolError(`the schema's ${what} is not an object`)
  return json
}

function list(json: unknown, what: string): readonly unknown[] {
  if (!isArray(json)) throw protocolError(`the schema's ${what} is not an array`)
  return json
}

function text(json: unknown, what: string): string {
  if (typeof json !== 'string') throw protocolError(`the schema's ${what} is not a string`)
  return json
}

function mapValues<V, W>(object: Readonly<Record<string, V>>, change: (value: V) => W): Readonly<Record<string, W>> {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value)]))
}
