import type { Brand } from '../lib/brand.js'
import { protocolError } from './errors.js'
import { excerpt, isArray } from './json.js'
import type { AtomicType, ColumnSchema } from './schema.js'

/** The identity of a row, in lower case (RFC 7047 §3.1, `<uuid>`). */
export type Uuid = Brand<string, 'Uuid'>

/** A row that the same transaction inserts (RFC 7047 §5.1, `<named-uuid>`). Only `Transaction.insert` makes one. */
export interface NamedUuid {
  readonly namedUuid: string
}

/**
 * RFC 7047 §5.1, `<atom>`. An integer beyond 2^53 is a bigint, any other a number. A uuid is a {@link Uuid} or a
 * {@link NamedUuid}.
 */
export type Atom = string | number | bigint | boolean | NamedUuid

/** RFC 7047 §5.1, `<value>`: an atom, an optional atom, a set, or a map. */
export type Value = Atom | undefined | readonly Atom[] | ReadonlyMap<Atom, Atom>

export type Decoder = (json: unknown) => Value

const uuidPattern = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

export function isUuid(text: unknown): text is Uuid {
  return typeof text === 'string' && uuidPattern.test(text)
}

/** The elements of what is written as `["set", …]`; none of any other JSON. */
export function elementsOf(json: unknown): readonly unknown[] {
  return isTagged(json, 'set') ? json[1] : []
}

/** Whether it is a set or a map that holds nothing. */
export function isEmpty(json: unknown): boolean {
  return (isTagged(json, 'set') || isTagged(json, 'map')) && json[1].length === 0
}

/** How many values a column holds decides its shape, and how a difference to it is told. */
export type Shape = 'scalar' | 'optional' | 'set' | 'map'

export function shapeOf({ value, min, max }: ColumnSchema): Shape {
  if (value !== undefined) return 'map'
  if (max > 1) return 'set'
  return min === 0 ? 'optional' : 'scalar'
}

/** Reads values of a column from the wire (RFC 7047 §5.1). Throws `protocol` for any other JSON. */
export function decoderOf(column: ColumnSchema): Decoder {
  const key = atomDecoder(column.key.type)
  switch (shapeOf(column)) {
    case 'scalar':
      return json => key(soleElement(json))
    case 'optional':
      return json => (isTagged(json, 'set') && json[1].length === 0 ? undefined : key(soleElement(json)))
    case 'set':
      return json => (isTagged(json, 'set') ? json[1].map(key) : [key(json)])
    case 'map':
      return mapDecoder(key, atomDecoder(column.value?.type ?? 'string'))
  }
}

/** What a column holds when an insert does not say (RFC 7047 §5.2.1). */
export function defaultValue(column: ColumnSchema): Value {
  const { key, value, min } = column
  const atom = defaultAtom(key.type)
  switch (shapeOf(column)) {
    case 'scalar':
      return atom
    case 'optional':
      return undefined
    case 'set':
      return min === 0 ? [] : [atom]
    case 'map':
      return new Map(value === undefined || min === 0 ? [] : [[atom, defaultAtom(value.type)]])
  }
}

/** Whether two values of one column are the same; the order of a set or map is no part of its value. */
export function isSameValue(a: Value, b: Value): boolean {
  if (Object.is(a, b)) return true
  if (a instanceof Map && b instanceof Map) {
    if (a.size !== b.size) return false
    for (const [k, v] of a) if (v !== b.get(k)) return false
    return true
  }
  if (!isArray(a) || !isArray(b) || a.length !== b.length) return false
  if (a.every((atom, i) => atom === b[i])) return true
  const elements = new Set(a)
  return b.every(atom => elements.has(atom))
}

/**
 * The value that `difference` makes of `before`, where `difference` comes from an `update2` or `update3`
 * (ovsdb-server(7), "Update2 Notification"): the elements that one of both sets has, the pairs of a map that came,
 * changed or went, or the new value where there is at most one.
 */
export function applyDifference(column: ColumnSchema, before: Value, difference: Value): Value {
  if (column.max <= 1) return difference
  if (before instanceof Map && difference instanceof Map) return mergeMap(before, difference)
  if (isAtoms(before) && isAtoms(difference)) return mergeSet(before, difference)
  return difference
}

function isAtoms(value: Value): value is readonly Atom[] {
  return Array.isArray(value)
}

function mergeMap(before: ReadonlyMap<Atom, Atom>, difference: ReadonlyMap<Atom, Atom>): ReadonlyMap<Atom, Atom> {
  const after = new Map(before)
  for (const [k, v] of difference) {
    if (after.get(k) === v) after.delete(k)
    else after.set(k, v)
  }
  return after
}

function mergeSet(before: readonly Atom[], difference: readonly Atom[]): readonly Atom[] {
  const changed = new Set(difference)
  // What is deleted here was in both, so what remains has come.
  const kept = before.filter(atom => !changed.delete(atom))
  for (const atom of changed) kept.push(atom)
  return kept
}

function atomDecoder(type: AtomicType): (json: unknown) => Atom {
  switch (type) {
    case 'string':
      return json => (typeof json === 'string' ? json : mismatch(type, json))
    case 'boolean':
      return json => (typeof json === 'boolean' ? json : mismatch(type, json))
    case 'real':
      return json => (isFiniteNumber(json) ? Number(json) + 0 : mismatch(type, json))
    case 'integer':
      return json => (typeof json === 'bigint' || Number.isSafeInteger(json) ? integer(json) : mismatch(type, json))
    case 'uuid':
      return json => (isArray(json) && json[0] === 'uuid' && isUuid(json[1]) ? json[1] : mismatch(type, json))
  }
}

// `JSON.parse` makes Infinity of 1e400, which no column can hold. Adding 0 makes 0 of -0, which to a column is the same.
function isFiniteNumber(json: unknown): boolean {
  return typeof json === 'bigint' || Number.isFinite(json)
}

function integer(json: unknown): number | bigint {
  return typeof json === 'bigint' ? json : Number(json) + 0
}

function mapDecoder(key: (json: unknown) => Atom, value: (json: unknown) => Atom): Decoder {
  return json => {
    if (!isTagged(json, 'map')) throw protocolError(`expected a map, got ${excerpt(json)}`)
    const map = new Map<Atom, Atom>()
    for (const pair of json[1]) {
      if (!isArray(pair) || pair.length !== 2) throw protocolError(`expected a pair, got ${excerpt(pair)}`)
      map.set(key(pair[0]), value(pair[1]))
    }
    return map
  }
}

function isTagged(json: unknown, tag: 'set' | 'map'): json is readonly [string, readonly unknown[]] {
  return isArray(json) && json.length === 2 && json[0] === tag && isArray(json[1])
}

function soleElement(json: unknown): unknown {
  return isTagged(json, 'set') && json[1].length === 1 ? json[1][0] : json
}

function mismatch(type: AtomicType, json: unknown): never {
  throw protocolError(`expected ${type}, got ${excerpt(json)}`)
}

/** The same for every column of the type, whatever its range or enum allows. */
function defaultAtom(type: AtomicType): Atom {
  switch (type) {
    case 'integer':
    case 'real':
      return 0
    case 'boolean':
      return false
    case 'string':
      return ''
    case 'uuid':
      return '00000000-0000-0000-0000-000000000000'
  }
}
