import {
  checkMutator,
  columnOf,
  encodeAtoms,
  encodeConditions,
  encodeElements,
  encodeOperand,
  encodeSet,
  encodeText,
  encodeValue,
  identityOf,
  isNamedUuid,
  type Place,
  refusal,
  tableOf,
} from './checking.js'
import type { Json } from './json.js'
import { isEmpty, type NamedUuid, type Uuid } from './notation.js'
import type { JsonRow, Mutation, Operation, RowRef } from './operation.js'
import { decodeRow, rowReader, typed } from './row.js'
import type { ColumnSchema, DatabaseSchema } from './schema.js'

/** What may be written where `V` is read: a row inserted by the same transaction can be referred to. */
export type Written<V> = V extends Uuid
  ? Uuid | NamedUuid
  : V extends ReadonlyMap<infer K, infer W>
    ? ReadonlyMap<Written<K>, Written<W>>
    : V extends readonly (infer E)[]
      ? readonly Written<E>[]
      : V

/**
 * Column values for an insert or an update. A column that is left out keeps its value (or takes its default);
 * `undefined` empties an optional one.
 */
export type Columns<R> = { readonly [C in Exclude<keyof R, '_uuid'>]?: Written<R[C]> }

/** RFC 7047 §5.1, `<mutator>`, as far as a column of type `V` has it. */
export type Mutator<V> =
  NonNullable<V> extends number | bigint
    ? '+=' | '-=' | '*=' | '/=' | '%='
    : NonNullable<V> extends readonly unknown[] | ReadonlyMap<unknown, unknown>
      ? 'insert' | 'delete'
      : never

/** RFC 7047 §5.1, `<condition>`. `where` of a single row is its uuid. */
export type Condition<R> = {
  readonly [C in keyof R & string]: readonly [
    column: C,
    test: '==' | '!=' | 'includes' | 'excludes' | '<' | '<=' | '>' | '>=',
    value: R[C],
  ]
}[keyof R & string]

/** A row to be read within the transaction; {@link Committed.row} gives it. */
export interface Selection<R> {
  readonly operationIndex: number
  /** Reads the row that the server answered with. */
  readonly decode: (row: unknown) => R
}

/** What a committed transaction came to. */
export interface Committed {
  /** The uuid that the server gave to an inserted row. */
  uuid(inserted: NamedUuid): Uuid
  /** A selected row, as it was at that point of the transaction. Undefined when there was no such row. */
  row<R>(selection: Selection<R>): R | undefined
}

/**
 * Operations that are to be committed together or not at all (RFC 7047 §5.2).
 *
 * Several callers may add their parts to one builder. Each notes `operationCount` before and after its part: a problem's
 * `operationIndex` falls into the range of the part that failed, but for what it added to a set that an earlier part had
 * added to: that is of the earlier part's operation.
 *
 * Every method checks its values against the schema and throws `invalid-value` before anything is added.
 */
export interface Transaction<T> {
  readonly operationCount: number
  readonly operations: readonly Operation[]
  /**
   * Adds a row. The answer stands for it within this transaction. A row of a table that is no root has to be referred to in the
   * same transaction, which is not sent (`invalid-value`) while it is not.
   */
  insert<K extends keyof T & string>(table: K, values: Columns<T[K]>): NamedUuid
  /** Sets columns of a row. A missing row fails the transaction with `row-vanished`. */
  update<K extends keyof T & string>(table: K, row: Uuid | NamedUuid, values: Columns<T[K]>): void
  /**
   * Changes a column relative to its present value. A map's `insert` leaves keys that exist as they are (see
   * {@link setKeys}); its `delete` takes the pairs to remove, and only those that match in key and value go. Additions to
   * one set go in one operation while there are only inserts of rows between them.
   */
  mutate<K extends keyof T & string, C extends Exclude<keyof T[K], '_uuid'> & string>(
    table: K,
    row: Uuid | NamedUuid,
    column: C,
    mutator: Mutator<T[K][C]>,
    value: Written<NonNullable<T[K][C]>>,
  ): void
  /** Sets keys of a map column and removes those whose value is undefined; the other keys stay. */
  setKeys<K extends keyof T & string, C extends MapColumn<T[K]>>(
    table: K,
    row: Uuid | NamedUuid,
    column: C,
    entries: ReadonlyMap<MapKey<T[K][C]>, Written<MapValue<T[K][C]>> | undefined>,
  ): void
  delete<K extends keyof T & string>(table: K, row: Uuid): void
  /**
   * The row must exist and have these values, else the transaction fails with `precondition-failed`. No values: it must
   * exist.
   */
  wait<K extends keyof T & string>(table: K, row: Uuid, values: Partial<T[K]>): void
  /** The rows that meet all conditions must (`==`) or must not (`!=`) be exactly `rows`, for at most `timeoutMs`. */
  waitRows<K extends keyof T & string, C extends keyof T[K] & string>(
    table: K,
    where: readonly Condition<T[K]>[],
    expected: {
      readonly columns: readonly C[]
      readonly rows: readonly Pick<T[K], C>[]
      readonly until: '==' | '!='
      readonly timeoutMs?: number
    },
  ): void
  /** Reads a row at this point of the transaction: after a `mutate` it shows the new value. */
  select<K extends keyof T & string, C extends keyof T[K] & string>(
    table: K,
    row: Uuid,
    columns: readonly C[],
  ): Selection<Pick<T[K], C>>
  /** Written to the database's log (RFC 7047 §5.2.9); seen by `ovsdb-tool show-log`. */
  comment(text: string): void
}

/** The columns of a row that are maps. */
export type MapColumn<R> = { [C in keyof R & string]: R[C] extends ReadonlyMap<unknown, unknown> ? C : never }[keyof R &
  string]
export type MapKey<V> = V extends ReadonlyMap<infer K, unknown> ? K : never
export type MapValue<V> = V extends ReadonlyMap<unknown, infer W> ? W : never

/** A transaction without operations. `schema` says what may be written. */
export function newTransaction<T>(schema: DatabaseSchema<T>): Transaction<T> {
  return new TransactionBuilder(schema)
}

/** A set that a `mutate` adds to. */
interface GrowingSet {
  readonly table: string
  readonly target: RowRef
  readonly column: string
  /** Of the operation. */
  readonly atoms: Json[]
  readonly identities: Set<unknown>
}

class TransactionBuilder {
  readonly #schema: DatabaseSchema
  readonly #operations: Operation[] = []
  readonly #inserted = new Set<NamedUuid>()
  /** Of the last operation that is no `insert`, if it adds to a set and does nothing else. */
  #growing: GrowingSet | undefined
  readonly #isInserted = (row: NamedUuid) => this.#inserted.has(row)

  constructor(schema: DatabaseSchema) {
    this.#schema = schema
  }

  get operationCount(): number {
    return this.#operations.length
  }

  get operations(): readonly Operation[] {
    return this.#operations
  }

  insert(table: string, values: object): NamedUuid {
    const row = withoutEmpty(this.#encodeRow(table, values))
    const as = { namedUuid: `row${this.#inserted.size}` }
    this.#inserted.add(as)
    this.#add({ op: 'insert', table, row, as })
    return as
  }

  update(table: string, target: RowRef, values: object): void {
    for (const column of Object.keys(values)) this.#checkMutable(table, column)
    this.#checkTarget(table, target)
    this.#add({ op: 'update', table, target, row: this.#encodeRow(table, values) })
  }

  mutate(table: string, target: RowRef, column: string, mutator: string, value: unknown): void {
    this.#checkMutable(table, column)
    this.#checkTarget(table, target)
    const schema = this.#column(table, column)
    const place = this.#place(table, column)
    checkMutator(place, schema, mutator, value)
    if (mutator === 'insert' && schema.value === undefined) {
      this.#addToSet(table, target, column, encodeAtoms(place, schema.key, value))
      return
    }
    const isSetChange = mutator === 'insert' || mutator === 'delete'
    const operand = isSetChange ? encodeElements(place, schema, value) : encodeOperand(place, schema.key, value)
    this.#add({ op: 'mutate', table, target, mutations: [[column, mutator, operand]] })
  }

  setKeys(table: string, target: RowRef, column: string, entries: ReadonlyMap<unknown, unknown>): void {
    this.#checkMutable(table, column)
    this.#checkTarget(table, target)
    const schema = this.#column(table, column)
    const place = this.#place(table, column)
    const present = new Map([...entries].filter(([, value]) => value !== undefined))
    // `insert` would leave a key that exists as it is.
    const removal: Mutation = [column, 'delete', encodeSet(place, schema.key, [...entries.keys()])]
    const addition: Mutation = [column, 'insert', encodeElements(place, schema, present)]
    this.#add({ op: 'mutate', table, target, mutations: [removal, addition] })
  }

  delete(table: string, target: Uuid): void {
    tableOf(this.#schema, table)
    this.#add({ op: 'delete', table, target })
  }

  wait(table: string, row: Uuid, values: object): void {
    const expected = this.#encodeRow(table, values)
    const where: Json = [['_uuid', '==', ['uuid', row]]]
    const columns = Object.keys(expected)
    this.#add({ op: 'wait', table, where, columns, rows: [expected], until: '==', timeoutMs: 0 })
  }

  waitRows(
    table: string,
    conditions: readonly (readonly [string, string, unknown])[],
    expected: {
      readonly columns: readonly string[]
      readonly rows: readonly object[]
      readonly until: '==' | '!='
      readonly timeoutMs?: number
    },
  ): void {
    const { columns, until, timeoutMs = 0 } = expected
    const where = encodeConditions(this.#schema, table, conditions)
    const rows = expected.rows.map(row => this.#encodeRow(table, row))
    this.#add({ op: 'wait', table, where, columns, rows, until, timeoutMs })
  }

  select<R>(table: string, target: Uuid, columns: readonly string[]): Selection<R> {
    const reader = rowReader(Object.fromEntries(columns.map(name => [name, this.#column(table, name)])))
    const operationIndex = this.#operations.length
    this.#add({ op: 'select', table, target, columns })
    return { operationIndex, decode: row => typed<R>(decodeRow(reader, target, row)) }
  }

  comment(text: string): void {
    const place = { table: 'comment', column: 'text', isInserted: () => false }
    this.#add({ op: 'comment', comment: encodeText(place, text) })
  }

  #add(operation: Operation): void {
    if (operation.op !== 'insert') this.#growing = undefined
    this.#operations.push(operation)
  }

  /** What many parts add to one set goes in one operation: that is less to send, and for the server to do. */
  #addToSet(table: string, target: RowRef, column: string, added: Json[]): void {
    const growing = this.#growing
    if (growing?.table === table && growing.target === target && growing.column === column) {
      for (const atom of added) {
        if (growing.identities.has(identityOf(atom))) continue
        growing.identities.add(identityOf(atom))
        growing.atoms.push(atom)
      }
      return
    }
    this.#add({ op: 'mutate', table, target, mutations: [[column, 'insert', ['set', added]]] })
    this.#growing = { table, target, column, atoms: added, identities: new Set(added.map(identityOf)) }
  }

  #encodeRow(table: string, values: object): JsonRow {
    tableOf(this.#schema, table)
    const row: Record<string, Json> = {}
    const entries: [string, unknown][] = Object.entries(values)
    for (const [name, value] of entries) {
      row[name] = encodeValue(this.#place(table, name), this.#column(table, name), value)
    }
    return row
  }

  #column(table: string, column: string): ColumnSchema {
    return columnOf(this.#schema, table, column)
  }

  #checkMutable(table: string, column: string): void {
    if (!this.#column(table, column).mutable) throw refusal({ table, column }, 'cannot be changed after the insert')
  }

  #checkTarget(table: string, target: RowRef): void {
    if (isNamedUuid(target) && !this.#isInserted(target))
      throw refusal({ table, column: '_uuid' }, 'names a row that another transaction inserts')
  }

  #place(table: string, column: string): Place {
    return { table, column, isInserted: this.#isInserted }
  }
}

/** A column of which an `insert` says nothing is empty (RFC 7047 §5.2.1), if it may be. */
function withoutEmpty(row: JsonRow): JsonRow {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => !isEmpty(value)))
}
