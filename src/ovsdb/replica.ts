import type { Uuid } from './notation.js'

/** A row that came, changed or went. `before` and `after` are whole rows, and never change themselves. */
export type Change<V> = {
  readonly [K in keyof V & string]:
    | { readonly table: K; readonly kind: 'insert'; readonly after: V[K] }
    | { readonly table: K; readonly kind: 'modify'; readonly before: V[K]; readonly after: V[K] }
    | { readonly table: K; readonly kind: 'delete'; readonly before: V[K] }
}[keyof V & string]

/**
 * The monitored part of the database as of the last transaction that the server has told us of.
 * It keeps its contents while the connection is lost. Rows are immutable: a change replaces the row.
 */
export interface Replica<V> {
  /** Grows by one with each applied transaction. */
  readonly revision: number
  get<K extends keyof V & string>(table: K, uuid: Uuid): V[K] | undefined
  /** By a column that is by itself an index of the schema, such as `Bridge.name`. O(1). Any other column is a defect and throws. */
  find<K extends keyof V & string, C extends keyof V[K] & string>(table: K, column: C, value: V[K][C]): V[K] | undefined
  rows<K extends keyof V & string>(table: K): Iterable<V[K]>
  /** The rows of `table` whose `column` refers to `target`. O(answers). A column that holds no references is a defect and throws. */
  referrers<K extends keyof V & string>(table: K, column: keyof V[K] & string, target: Uuid): Iterable<V[K]>
}
