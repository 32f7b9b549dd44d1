import { assertNever } from '../lib/assert-never.js'
import { protocolError } from './errors.js'
import { isArray } from './json.js'
import type { RowUpdate } from './monitor.js'
import { isUuid, type Uuid, type Value } from './notation.js'
import { decodeRow, modifyRow, type Row, type RowReader, rowReader } from './row.js'
import type { DatabaseSchema } from './schema.js'

/** The rows that refer to one row. Nearly always one, and then not worth a set. */
type Sources = Uuid | Set<Uuid>

/** The rows of one table and the ways to find them. */
export class Table {
  readonly name: string
  readonly rows = new Map<Uuid, Row>()
  readonly #reader: RowReader
  /** By column, by its value. Only columns that are a unique index by themselves. */
  readonly #unique = new Map<string, Map<unknown, Uuid>>()
  /** By column, by the row referred to: the rows of this table that refer to it. */
  readonly #referrers = new Map<string, Map<Value, Sources>>()

  constructor(name: string, schema: DatabaseSchema, columns: readonly string[]) {
    const table = schema.tables[name]
    if (table === undefined) throw protocolError(`the schema has no table ${name}`)
    this.name = name
    const types = columns.map(column => {
      const type = table.columns[column]
      if (type === undefined) throw protocolError(`the schema has no column ${name}.${column}`)
      if (type.key.type === 'uuid' || type.value?.type === 'uuid') this.#referrers.set(column, new Map())
      return [column, type] as const
    })
    this.#reader = rowReader(Object.fromEntries(types))
    for (const [column, ...others] of table.indexes) {
      if (column !== undefined && others.length === 0 && columns.includes(column)) this.#unique.set(column, new Map())
    }
  }

  find(column: string, value: unknown): Row | undefined {
    const index = this.#unique.get(column)
    if (index === undefined) throw new TypeError(`${this.name}.${column} is not monitored, or no unique index`)
    const uuid = index.get(value)
    return uuid === undefined ? undefined : this.rows.get(uuid)
  }

  *referrers(column: string, target: Uuid): Generator<Row> {
    const index = this.#referrers.get(column)
    if (index === undefined) throw new TypeError(`${this.name}.${column} is not monitored, or holds no references`)
    const sources = index.get(target) ?? []
    for (const uuid of typeof sources === 'string' ? [sources] : sources) {
      const row = this.rows.get(uuid)
      if (row !== undefined) yield row
    }
  }

  /** What an update makes of a row; nothing is changed yet. */
  changeBy(update: RowUpdate): { table: Table; uuid: Uuid; before: Row | undefined; after: Row | undefined } {
    const { uuid } = update
    const before = this.rows.get(uuid)
    return { table: this, uuid, before, after: this.#rowAfter(update, before) }
  }

  #rowAfter(update: RowUpdate, before: Row | undefined): Row | undefined {
    switch (update.kind) {
      case 'delete':
        if (before === undefined) throw protocolError(`the end of ${this.name} ${update.uuid}, which is not there`)
        return undefined
      case 'insert':
        if (before !== undefined) throw protocolError(`${this.name} ${update.uuid} comes a second time`)
        return decodeRow(this.#reader, update.uuid, update.row)
      case 'row':
        return decodeRow(this.#reader, update.uuid, update.row)
      case 'modify':
        if (before === undefined) throw protocolError(`an update of ${this.name} ${update.uuid}, which is not there`)
        return modifyRow(this.#reader, before, update.difference)
      default:
        return assertNever(update)
    }
  }

  /** Takes out of the indexes what `before` has and `after` has no more. */
  unindex(uuid: Uuid, before: Row, after: Row | undefined): void {
    for (const [column, index] of this.#unique) {
      if (before[column] !== after?.[column]) index.delete(before[column])
    }
    for (const [column, index] of this.#referrers) {
      for (const target of referencesLost(before[column], after?.[column])) {
        const sources = index.get(target)
        if (sources instanceof Set) sources.delete(uuid)
        if (sources === uuid || (sources instanceof Set && sources.size === 0)) index.delete(target)
      }
    }
  }

  /** Puts a row in its place, and into the indexes what `before` has not yet. */
  set(uuid: Uuid, before: Row | undefined, after: Row): void {
    this.rows.set(uuid, after)
    for (const [column, index] of this.#unique) index.set(after[column], uuid)
    for (const [column, index] of this.#referrers) {
      for (const target of referencesLost(after[column], before?.[column])) {
        const sources = index.get(target)
        if (sources === undefined) index.set(target, uuid)
        else if (sources instanceof Set) sources.add(uuid)
        else index.set(target, new Set([sources, uuid]))
      }
    }
  }
}

/** The rows that a value of a column of references names. */
function referencesIn(value: Value): readonly Value[] {
  if (value === undefined) return []
  // A reference may be the key, the value or both.
  if (value instanceof Map) return [...value].flat().filter(isUuid)
  return isArray(value) ? value : [value]
}

/**
 * The references in `a` that are not in `b`.
 * One port more or less in a set of thousands is found by what the two sets have in common at either end.
 */
function referencesLost(a: Value, b: Value): readonly Value[] {
  if (a === b) return []
  const before = referencesIn(a)
  const after = referencesIn(b)
  if (after.length === 0) return before
  let start = 0
  while (start < before.length && before[start] === after[start]) start++
  let tail = 0
  const most = Math.min(before.length, after.length) - start
  while (tail < most && before.at(-1 - tail) === after.at(-1 - tail)) tail++
  const kept = new Set(after.slice(start, after.length - tail))
  return before.slice(start, before.length - tail).filter(uuid => !kept.has(uuid))
}
