import { assertNever } from '../lib/assert-never.js'
import { protocolError } from './errors.js'
import { isArray, isRecord } from './json.js'
import type { RowUpdate } from './monitor.js'
import { applyDifference, isUuid, type Uuid, type Value } from './notation.js'
import { type ColumnReader, columnReader, decodeColumn, decodeRow, type Row } from './row.js'
import type { DatabaseSchema } from './schema.js'

/** The rows that refer to one row. Nearly always one, and then not worth a set. */
type Sources = Uuid | Set<Uuid>

/** The rows of one table and the ways to find them. */
export class Table {
  readonly name: string
  readonly rows = new Map<Uuid, Row>()
  readonly #columns: readonly ColumnReader[]
  /** By column, by its value. Only columns that are a unique index by themselves. */
  readonly #unique = new Map<string, Map<unknown, Uuid>>()
  /** By column, by the row referred to: the rows of this table that refer to it. */
  readonly #referrers = new Map<string, Map<Uuid, Sources>>()

  constructor(name: string, schema: DatabaseSchema, columns: readonly string[]) {
    const table = schema.tables[name]
    if (table === undefined) throw protocolError(`the schema has no table ${name}`)
    this.name = name
    this.#columns = columns.map(column => {
      const type = table.columns[column]
      if (type === undefined) throw protocolError(`the schema has no column ${name}.${column}`)
      if (type.key.type === 'uuid' || type.value?.type === 'uuid') this.#referrers.set(column, new Map())
      return columnReader(column, type)
    })
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
        return decodeRow(this.#columns, update.uuid, update.row)
      case 'row':
        return decodeRow(this.#columns, update.uuid, update.row)
      case 'modify':
        if (before === undefined) throw protocolError(`an update of ${this.name} ${update.uuid}, which is not there`)
        return this.#modify(before, update.difference)
      default:
        return assertNever(update)
    }
  }

  #modify(before: Row, difference: unknown): Row {
    if (!isRecord(difference)) throw protocolError('a difference is not an object')
    const after: { _uuid: Uuid; [column: string]: Value } = { ...before }
    for (const column of this.#columns) {
      const change = difference[column.name]
      if (change === undefined) continue
      after[column.name] = applyDifference(column.schema, before[column.name], decodeColumn(column, change))
    }
    return after
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

/**
 * The references in `a` that are not in `b`.
 * One port more or less in a set of thousands is found by what the two sets have in common at either end.
 */
function referencesLost(a: Value, b: Value): readonly Uuid[] {
  if (a === b) return []
  if (a instanceof Map) {
    const kept = new Set(b instanceof Map ? [...b].flat() : [])
    return [...a]
      .flat()
      .filter(isUuid)
      .filter(uuid => !kept.has(uuid))
  }
  if (!isArray(a)) return isUuid(a) ? [a] : []
  if (!isArray(b)) return a.filter(isUuid)
  let start = 0
  while (start < a.length && start < b.length && a[start] === b[start]) start++
  let tail = 0
  while (tail < a.length - start && tail < b.length - start && a.at(-1 - tail) === b.at(-1 - tail)) tail++
  const kept = new Set(b.slice(start, b.length - tail))
  return a
    .slice(start, a.length - tail)
    .filter(isUuid)
    .filter(uuid => !kept.has(uuid))
}
