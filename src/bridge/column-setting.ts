import { type Parsed, parsed, refused } from '../lib/parsed.js'
import type { ColumnSchema } from '../ovsdb/index.js'
import {
  excerpt,
  type PlainAtom,
  type PlainValue,
  parseAtom,
  parseColumnValue,
  readToken,
  takenBy,
} from './column-value.js'

/** A table's columns by name. */
export type ColumnSchemas = Readonly<Record<string, ColumnSchema>>

/** What one argument of `ovs-vsctl set` says (ovs-vsctl(8), `set`), held against a table's schema. */
export interface ColumnSetting {
  /** Its full name, also when it was abbreviated. */
  readonly column: string
  /** The value as it was given. */
  readonly given: string
  readonly to:
    | { readonly kind: 'whole'; readonly value: PlainValue }
    /** One key of a map; the others stay. */
    | { readonly kind: 'key'; readonly key: PlainAtom; readonly value: PlainAtom }
}

/** Reads `column=value` or `column:key=value`. A column may be abbreviated, and have `-` for `_`. */
export function parseColumnSetting(columns: ColumnSchemas, input: string): Parsed<ColumnSetting> {
  if (input.includes('\0')) return refused('holds a NUL')
  const name = readToken(input)
  if (!name.ok) return name
  if (name.value.text === '') return refused('names no column')
  const found = findColumn(columns, name.value.text)
  if (!found.ok) return found
  const { column, schema } = found.value
  const key = name.value.rest.startsWith(':') ? readToken(name.value.rest.slice(1)) : undefined
  if (key?.ok === false) return key
  const rest = key?.value.rest ?? name.value.rest
  if (!rest.startsWith('=') || rest === '=') return refused('has no = with a value after it')
  const given = rest.slice(1)
  const to = key === undefined ? parseWhole(schema, given) : parseKey(schema, key.value.text, given)
  return to.ok ? parsed({ column, given, to: to.value }) : refused(`${column} takes ${takenBy(schema)}; ${to.reason}`)
}

function parseWhole(schema: ColumnSchema, given: string): Parsed<ColumnSetting['to']> {
  const value = parseColumnValue(schema, given)
  return value.ok ? parsed({ kind: 'whole', value: value.value }) : value
}

function parseKey(schema: ColumnSchema, keyText: string, given: string): Parsed<ColumnSetting['to']> {
  if (schema.value === undefined) return refused('it is no map and has no keys')
  const key = parseAtom(schema.key, keyText)
  if (!key.ok) return refused(`the key: ${key.reason}`)
  const value = parseAtom(schema.value, given)
  return value.ok ? parsed({ kind: 'key', key: key.value, value: value.value }) : value
}

/** The column of that name, else the one of that name but for case and dashes, else the only one that it abbreviates. */
function findColumn(
  columns: ColumnSchemas,
  name: string,
): Parsed<{ readonly column: string; readonly schema: ColumnSchema }> {
  const folded = fold(name)
  const names = Object.keys(columns)
  const matches = names.filter(column => fold(column).startsWith(folded))
  const exact = [matches.find(column => column === name) ?? matches.find(column => fold(column) === folded)]
  const [column, ...others] = exact[0] === undefined ? matches : exact
  const schema = column === undefined ? undefined : columns[column]
  if (column === undefined || schema === undefined) return refused(`there is no column ${excerpt(name)}`)
  if (others.length > 0) return refused(`${name} may be ${matches.join(' or ')}`)
  return parsed({ column, schema })
}

function fold(name: string): string {
  return name.replace(/[A-Z-]/g, letter => (letter === '-' ? '_' : letter.toLowerCase()))
}
