import type { Tables } from '../gen/vswitch.js'
import type { Transaction } from '../ovsdb/index.js'
import type { OvsReplica } from './ovs.js'
import type { Place } from './wave.js'

export type OvsTransaction = Transaction<Tables>

/** A caller's part of a transaction. */
export interface Part<R> {
  /** Names that it inserts, changes or removes. No two parts of one transaction share one, and they keep their order. */
  readonly owns: readonly string[]
  /** Names that must stay as they are meanwhile, such as the bridge of a new tap. */
  readonly needs: readonly string[]
  /** ovs-vswitchd has to act on it: `next_cfg` is bumped, and it counts as applied when `cur_cfg` has followed. */
  readonly reconfigures: boolean
  /** It undoes a failed call, and so does not wait until ovs-vswitchd has applied what came before. */
  readonly undoes?: boolean
  /** Held until the part is in the queue, so that the next transaction waits for it. */
  readonly place?: Place
  /**
   * Adds the operations, planned from the replica as it is now; runs again when the transaction has to be repeated.
   * What it throws is the answer to this caller alone. Its own answer gives the result once the transaction is committed, which
   * may have been found out without the server's.
   */
  write(transaction: OvsTransaction, replica: OvsReplica): () => R
}

/** What a caller gets once its part stands in the database. */
export interface Receipt<R> {
  readonly result: R
  /** The `next_cfg` that stands for it; undefined when ovs-vswitchd need not act. */
  readonly epoch: bigint | undefined
}
