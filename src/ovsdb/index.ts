export type {
  Endpoint,
  Monitored,
  OvsdbClient,
  OvsdbEvent,
  OvsdbOptions,
  Replicated,
  Status,
} from './client.js'
export { openOvsdb } from './client.js'
export type { OvsdbProblem } from './errors.js'
export { OvsdbError } from './errors.js'
export type { Atom, NamedUuid, Uuid, Value } from './notation.js'
export type { Change, Replica } from './replica.js'
export type { AtomicType, BaseType, ColumnSchema, DatabaseSchema, TableSchema } from './schema.js'
export type { Columns, Committed, Condition, Mutator, Selection, Transaction, Written } from './transaction.js'
export { newTransaction } from './transaction.js'
