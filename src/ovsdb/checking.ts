import { OvsdbError } from './errors.js'
import { isArray, type Json } from './json.js'
import { type Atom, isUuid, type NamedUuid, shapeOf } from './notation.js'
import type { BaseType, ColumnSchema, DatabaseSchema, TableSchema } from './schema.js'

/** Which column a value is for, and which rows the transaction has inserted so far. */
export interface Place {
  readonly table: string
  readonly column: string
  readonly isInserted: (row: NamedUuid) => boolean
}

interface Size {
  readonly min: number
  readonly max: number
}

const anySize: Size = { min: 0, max: Number.POSITIVE_INFINITY }

/** A value as the wire wants it (RFC 7047 §5.1). Throws `invalid-value` unless the column can hold it. */
export function encodeValue(place: Place, column: ColumnSchema, value: unknown): Json {
  switch (shapeOf(column)) {
    case 'scalar':
      return encodeAtom(place, column.key, value)
    case 'optional':
      return value === undefined ? ['set', []] : encodeAtom(place, column.key, value)
    case 'set':
    case 'map':
      return encodeElements(place, column, value, column)
  }
}

/** The operand of `insert` or `delete`: like a value of a set or map column, of any size. */
export function encodeElements(place: Place, column: ColumnSchema, value: unknown, size: Size = anySize): Json {
  if (column.value === undefined) return encodeSet(place, column.key, value, size)
  if (!(value instanceof Map)) throw refusal(place, 'is a map')
  const given: ReadonlyMap<unknown, unknown> = value
  checkSize(place, given.size, size)
  const { key, value: type } = column
  const pairs: [Json, Json][] = []
  for (const [k, v] of given) pairs.push([encodeAtom(place, key, k), encodeAtom(place, type, v)])
  // A Map has each text once.
  if (key.type !== 'string') {
    checkDistinct(
      place,
      pairs.map(([k]) => k),
    )
  }
  return ['map', pairs]
}

export function encodeSet(place: Place, type: BaseType, value: unknown, size?: Size): Json {
  return ['set', encodeAtoms(place, type, value, size)]
}

/** The elements of a set. */
export function encodeAtoms(place: Place, type: BaseType, value: unknown, size: Size = anySize): Json[] {
  if (!isArray(value)) throw refusal(place, 'is a set: give an array')
  checkSize(place, value.length, size)
  const elements = value.map(element => encodeAtom(place, type, element))
  checkDistinct(place, elements)
  return elements
}

/** Throws `invalid-value` unless the column has the mutator (RFC 7047 §5.1, `<mutator>`). */
export function checkMutator(place: Place, column: ColumnSchema, mutator: string, value: unknown): void {
  const { type } = column.key
  if (mutator === 'insert' || mutator === 'delete') {
    if (column.max <= 1) throw refusal(place, `holds at most one value: ${mutator} is for sets and maps`)
    return
  }
  const isNumber = column.value === undefined && (type === 'integer' || type === 'real')
  if (!isNumber || (type === 'real' && mutator === '%=')) throw refusal(place, `cannot be changed by ${mutator}`)
  const isZero = value === 0 || value === 0n
  if (isZero && (mutator === '/=' || mutator === '%=')) throw refusal(place, 'cannot be divided by zero')
}

/** A number to calculate with; the result's range is for the server to check. */
export function encodeOperand(place: Place, type: BaseType, value: unknown): Json {
  return encodeAtom(place, { type: type.type }, value)
}

export function encodeText(place: Place, value: unknown): string {
  return checkString(place, { type: 'string' }, value)
}

const uuidColumn: ColumnSchema = { key: { type: 'uuid' }, min: 1, max: 1, ephemeral: false, mutable: false }

export function tableOf(schema: DatabaseSchema, table: string): TableSchema {
  const found = Object.hasOwn(schema.tables, table) ? schema.tables[table] : undefined
  if (found === undefined) throw refusal({ table, column: '_uuid' }, 'is in no table of the schema')
  return found
}

export function columnOf(schema: DatabaseSchema, table: string, column: string): ColumnSchema {
  const { columns } = tableOf(schema, table)
  const found = Object.hasOwn(columns, column) ? columns[column] : undefined
  if (found !== undefined) return found
  if (column === '_uuid') return uuidColumn
  throw refusal({ table, column }, 'is no column of the schema')
}

/** RFC 7047 §5.1, `<condition>`. */
export function encodeConditions(
  schema: DatabaseSchema,
  table: string,
  conditions: readonly (readonly [string, string, unknown])[],
): readonly Json[] {
  return conditions.map(([column, test, value]) => {
    const place = { table, column, isInserted: () => false }
    const type = columnOf(schema, table, column)
    const isPart = (test === 'includes' || test === 'excludes') && type.max > 1
    return [column, test, isPart ? encodeElements(place, type, value) : encodeValue(place, type, value)]
  })
}

export function refusal({ table, column }: Pick<Place, 'table' | 'column'>, reason: string): OvsdbError {
  return new OvsdbError({ kind: 'invalid-value', message: `${table}.${column} ${reason}`, table, column, reason })
}

function checkSize(place: Place, size: number, { min, max }: { readonly min: number; readonly max: number }): void {
  if (size < min) throw refusal(place, `needs at least ${min} element`)
  if (size > max) throw refusal(place, `holds at most ${max} elements, not ${size}`)
}

/** Of atoms as the wire has them, where 1 and 1n are one. */
function checkDistinct(place: Place, atoms: readonly Json[]): void {
  if (atoms.length < 2) return
  const distinct = new Set(atoms.map(identityOf))
  if (distinct.size < atoms.length) throw refusal(place, 'names an element twice')
}

/** Equal for two elements of a set that are the same. */
export function identityOf(atom: Json): unknown {
  return isArray(atom) ? atom[1] : atom
}

function encodeAtom(place: Place, base: BaseType, value: unknown): Json {
  const atom = encodeType(place, base, value)
  if (base.enum !== undefined && !base.enum.some(choice => choice === atom))
    throw refusal(place, `is one of ${base.enum.join(', ')}, not ${String(value)}`)
  return atom
}

function encodeType(place: Place, base: BaseType, value: unknown): Json {
  switch (base.type) {
    case 'boolean':
      if (typeof value !== 'boolean') throw refusal(place, 'is a boolean')
      return value
    case 'string':
      return checkString(place, base, value)
    case 'integer':
      return checkInteger(place, base, value)
    case 'real':
      if (typeof value !== 'number' || !Number.isFinite(value)) throw refusal(place, 'is a finite number')
      checkRange(place, value, base.minReal, base.maxReal)
      return value
    case 'uuid':
      return encodeReference(place, value)
  }
}

const int64 = { min: -(2n ** 63n), max: 2n ** 63n - 1n }
const loneSurrogate = /\p{Surrogate}/u

function checkInteger(place: Place, { minInteger, maxInteger }: BaseType, value: unknown): number | bigint {
  if (typeof value !== 'bigint' && !(typeof value === 'number' && Number.isSafeInteger(value)))
    throw refusal(place, `is an integer, not ${String(value)}`)
  checkRange(place, value, minInteger ?? int64.min, maxInteger ?? int64.max)
  // As it is read: a bigint beyond 2^53 only.
  return Number.isSafeInteger(Number(value)) ? Number(value) : value
}

function checkRange(
  place: Place,
  value: number | bigint,
  min: number | bigint | undefined,
  max: number | bigint | undefined,
): void {
  if (min !== undefined && value < min) throw refusal(place, `is at least ${min}, not ${value}`)
  if (max !== undefined && value > max) throw refusal(place, `is at most ${max}, not ${value}`)
}

// A server that meets a NUL or half a surrogate pair does not refuse the value: it drops the connection.
function checkString(place: Place, { minLength = 0, maxLength }: BaseType, value: unknown): string {
  if (typeof value !== 'string') throw refusal(place, 'is a string')
  if (value.includes('\0')) throw refusal(place, 'cannot hold a NUL character')
  if (loneSurrogate.test(value)) throw refusal(place, 'holds half a surrogate pair')
  const length = minLength > 0 || maxLength !== undefined ? [...value].length : 0
  if (length < minLength) throw refusal(place, `has at least ${minLength} characters`)
  if (maxLength !== undefined && length > maxLength) throw refusal(place, `has at most ${maxLength} characters`)
  return value
}

function encodeReference(place: Place, value: unknown): Json {
  if (isUuid(value)) return ['uuid', value]
  if (!isNamedUuid(value)) throw refusal(place, 'is a reference to a row')
  if (!place.isInserted(value)) throw refusal(place, 'refers to a row that another transaction inserts')
  return ['named-uuid', value.namedUuid]
}

export function isNamedUuid(value: unknown): value is NamedUuid & Atom {
  return typeof value === 'object' && value !== null && 'namedUuid' in value
}
