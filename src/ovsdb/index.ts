import type { Monitored, OvsdbClient, OvsdbOptions, Replicated } from './client.js'
import { LiveClient } from './live-client.js'

export type {
  Endpoint,
  Monitored,
  OvsdbClient,
  OvsdbEvent,
  OvsdbOptions,
  Replicated,
  Status,
} from './client.js'
export { ovsdbStates } from './client.js'
export type { OvsdbProblem } from './errors.js'
export { OvsdbError } from './errors.js'
export type { Limits } from './limits.js'
export type { Atom, NamedUuid, Uuid, Value } from './notation.js'
export { elementsOf } from './notation.js'
export type { Readings } from './readings.js'
export type { Recipe } from './recipe.js'
export { carryOut } from './recipe.js'
export type { Patience } from './reconnect.js'
export type { Change, Replica } from './replica.js'
export type { AtomicType, BaseType, ColumnSchema, DatabaseSchema, TableSchema } from './schema.js'
export type { Trace } from './trace.js'
export type { Columns, Committed, Condition, Mutator, Selection, Transaction, Written } from './transaction.js'
export { newTransaction } from './transaction.js'

/** Opens a client; see {@link OvsdbClient}. Returns at once, before there is a connection. */
export function openOvsdb<T, const M extends Monitored<T>>(
  options: OvsdbOptions<T, M>,
): OvsdbClient<T, Replicated<T, M>> {
  return new LiveClient(options)
}
