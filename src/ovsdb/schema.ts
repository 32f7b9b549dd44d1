import type { Atom } from './notation.js'

/** RFC 7047 §3.2, `<atomic-type>`. */
export type AtomicType = 'integer' | 'real' | 'boolean' | 'string' | 'uuid'

/** RFC 7047 §3.2, `<base-type>`. */
export interface BaseType {
  readonly type: AtomicType
  readonly enum?: readonly Atom[]
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
