import type { Tables } from '../gen/vswitch.js'
import type { Transaction } from '../ovsdb/index.js'
import { type OvsReplica, rootOf } from './ovs.js'
import { lastTransaction, lastTransactionMark } from './ownership.js'

/** The name of a transaction of ours, and that of the one before it, which stands in the database until this one is committed. */
export interface Mark {
  readonly id: string
  readonly before: string | undefined
}

/**
 * Has `transaction` leave its name, `id`, in the database; ovs-vswitchd is not troubled with it. Undefined without a
 * place for it.
 */
export function markTransaction(
  transaction: Transaction<Tables>,
  replica: OvsReplica,
  instance: string,
  id: string,
): Mark | undefined {
  const root = rootOf(replica)
  if (root === undefined) return undefined
  transaction.setKeys('Open_vSwitch', root._uuid, 'external_ids', lastTransactionMark(instance, id))
  return { id, before: lastTransaction(instance, root.external_ids) }
}

/** What became of a transaction, as far as a replica shows it that has all that it will ever have of it. */
export function fateOf(
  mark: Mark | undefined,
  replica: OvsReplica,
  instance: string,
): 'committed' | 'lost' | 'unknown' {
  const root = rootOf(replica)
  if (mark === undefined || root === undefined) return 'unknown'
  const found = lastTransaction(instance, root.external_ids)
  if (found === mark.id) return 'committed'
  return found === mark.before ? 'lost' : 'unknown'
}
