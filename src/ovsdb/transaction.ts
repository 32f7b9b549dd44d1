import type { NamedUuid, Uuid } from './notation.js'
import type { DatabaseSchema } from './schema.js'

/** What may be written where `V` is read: a row inserted by the same transaction can be referred to. */
export type Written<V> = V extends Uuid
  ? Uuid | NamedUuid
  : V extends ReadonlyMap<infer K, infer W>
    ? ReadonlyMap<Written<K>, Written<W>>
    : V extends readonly (infer E)[]
      ? readonly Written<E>[]
      : V

/** Column values for an insert or an update. A column that is left out keeps its value (or takes its default); `undefined` empties an optional one. */
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
 * `operationIndex` falls into the range of the part that failed.
 *
 * Every method checks its values against the schema and throws `invalid-value` before anything is added.
 */
export interface Transaction<T> {
  readonly operationCount: number
  /** Adds a row. The answer stands for it within this transaction. */
  insert<K extends keyof T & string>(table: K, values: Columns<T[K]>): NamedUuid
  /** Sets columns of a row. A missing row fails the transaction with `row-vanished`. */
  update<K extends keyof T & string>(table: K, row: Uuid | NamedUuid, values: Columns<T[K]>): void
  /**
   * Changes a column relative to its present value. A map's `insert` leaves keys that exist as they are (see
   * {@link setKeys}); its `delete` takes the pairs to remove, and only those that match in key and value go.
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
  /** The row must exist and have these values, else the transaction fails with `precondition-failed`. No values: it must exist. */
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

export declare function newTransaction<T>(schema: DatabaseSchema<T>): Transaction<T>
