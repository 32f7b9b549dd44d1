import { limitReached, protocolError } from './errors.js'
import { defaultLimits } from './limits.js'
import type { RowUpdate } from './monitor.js'
import { isSameValue, type Uuid } from './notation.js'
import { type Row, typed } from './row.js'
import type { DatabaseSchema } from './schema.js'
import { Table } from './table.js'

/** A row that came, changed or went. `before` and `after` are whole rows, and never change themselves. */
export type Change<V> = {
  readonly [K in keyof V & string]:
    | { readonly table: K; readonly kind: 'insert'; readonly after: V[K] }
    | { readonly table: K; readonly kind: 'modify'; readonly before: V[K]; readonly after: V[K] }
    | { readonly table: K; readonly kind: 'delete'; readonly before: V[K] }
}[keyof V & string]

/**
 * The monitored part of the database as of the last transaction that the server has told us of.
 * It keeps its contents while the connection is lost. Rows are immutable: a change replaces the row. What is read in one turn of
 * the event loop is of one state; to go through `rows` or `referrers` over several turns, copy them first.
 */
export interface Replica<V> {
  /** Grows by one with each applied transaction. */
  readonly revision: number
  get<K extends keyof V & string>(table: K, uuid: Uuid): V[K] | undefined
  /**
   * By a column that is by itself an index of the schema, such as `Bridge.name`. O(1). Any other column is a defect and
   * throws.
   */
  find<K extends keyof V & string, C extends keyof V[K] & string>(table: K, column: C, value: V[K][C]): V[K] | undefined
  rows<K extends keyof V & string>(table: K): Iterable<V[K]>
  /**
   * The rows of `table` whose `column` refers to `target`. O(answers). A column that holds no references is a defect
   * and throws.
   */
  referrers<K extends keyof V & string>(table: K, column: keyof V[K] & string, target: Uuid): Iterable<V[K]>
}

/** A change before it is known of which type its rows are. */
interface RowChange {
  readonly table: Table
  readonly uuid: Uuid
  readonly before: Row | undefined
  readonly after: Row | undefined
}

/**
 * A replica that follows a session. Each method that changes it does so as a whole, or throws `protocol` or `limit` and
 * changes nothing.
 */
export class LiveReplica<V> implements Replica<V> {
  readonly #tables: ReadonlyMap<string, Table>
  readonly #maxRows: number
  #revision = 0

  constructor(
    schema: DatabaseSchema,
    columns: ReadonlyMap<string, readonly string[]>,
    maxRows = defaultLimits.maxRows,
  ) {
    this.#maxRows = maxRows
    this.#tables = new Map([...columns].map(([name, names]) => [name, new Table(name, schema, names)]))
  }

  get revision(): number {
    return this.#revision
  }

  /** How many rows there are, in all tables. */
  get rowCount(): number {
    return [...this.#tables.values()].reduce((sum, { rows }) => sum + rows.size, 0)
  }

  get<K extends keyof V & string>(table: K, uuid: Uuid): V[K] | undefined {
    return typed(this.#table(table).rows.get(uuid))
  }

  find<K extends keyof V & string, C extends keyof V[K] & string>(
    table: K,
    column: C,
    value: V[K][C],
  ): V[K] | undefined {
    return typed(this.#table(table).find(column, value))
  }

  rows<K extends keyof V & string>(table: K): Iterable<V[K]> {
    return typed(this.#table(table).rows.values())
  }

  referrers<K extends keyof V & string>(table: K, column: keyof V[K] & string, target: Uuid): Iterable<V[K]> {
    return typed(this.#table(table).referrers(column, target))
  }

  /** Takes in one transaction of the server's. */
  apply(updates: readonly RowUpdate[]): readonly Change<V>[] {
    return this.#commit(updates.map(update => this.#table(update.table).changeBy(update)))
  }

  /** Takes in a dump of the whole database; what it shares with the former contents is no change. */
  load(dump: readonly RowUpdate[]): readonly Change<V>[] {
    const changes: RowChange[] = []
    const seen = new Set<Uuid>()
    for (const update of dump) {
      const change = this.#table(update.table).changeBy(update)
      if (change.before !== undefined) seen.add(update.uuid)
      if (!isSameRow(change.before, change.after)) changes.push(change)
    }
    for (const table of this.#tables.values()) {
      for (const [uuid, before] of table.rows) {
        if (!seen.has(uuid)) changes.push({ table, uuid, before, after: undefined })
      }
    }
    return this.#commit(changes)
  }

  #commit(changes: readonly RowChange[]): readonly Change<V>[] {
    if (changes.length === 0) return []
    this.#checkRowCount(changes)
    // A name may pass from a row that goes to a row that comes, in either order of telling.
    for (const { table, uuid, before, after } of changes) if (before !== undefined) table.unindex(uuid, before, after)
    for (const { table, uuid, before, after } of changes) {
      if (after === undefined) table.rows.delete(uuid)
      else table.set(uuid, before, after)
    }
    this.#revision++
    return typed(changes.map(publish))
  }

  #checkRowCount(changes: readonly RowChange[]): void {
    const grownBy = changes.reduce(
      (sum, { before, after }) => sum + Number(after !== undefined) - Number(before !== undefined),
      0,
    )
    if (grownBy > 0 && this.rowCount + grownBy > this.#maxRows)
      throw limitReached('maxRows', `the replica would have more than ${this.#maxRows} rows`)
  }

  #table(name: string): Table {
    const table = this.#tables.get(name)
    if (table === undefined) throw protocolError(`table ${name} is not monitored`)
    return table
  }
}

function publish({ table: { name: table }, before, after }: RowChange): object {
  if (before === undefined) return { table, kind: 'insert', after }
  if (after === undefined) return { table, kind: 'delete', before }
  return { table, kind: 'modify', before, after }
}

function isSameRow(a: Row | undefined, b: Row | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  return Object.keys(a).every(column => isSameValue(a[column], b[column]))
}
