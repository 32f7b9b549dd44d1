import type { OvsdbClient } from './client.js'
import { OvsdbError, type OvsdbProblem } from './errors.js'
import type { Replica } from './replica.js'
import { type Committed, newTransaction, type Transaction } from './transaction.js'

/** A change that can be planned again when the database has changed under it. */
export interface Recipe<T, V, R> {
  /**
   * Adds the operations, planned from the replica as it is now, with the waits that make the plan safe. Its answer reads the
   * result once they are committed. What it throws ends {@link carryOut}.
   */
  write(transaction: Transaction<T>, replica: Replica<V>): (committed: Committed) => R
  /**
   * The result, read from a replica in which the change stands; undefined if it does not stand there. Asked when an answer was
   * lost. Without it such a change is not repeated, and fails with `outcome-unknown`.
   */
  find?(replica: Replica<V>): R | undefined
}

/** Failures without a winner in sight that may still be lost races. */
const maxAttempts = 8

/**
 * Commits what `recipe` writes, exactly once, for as long as `signal` allows: waits for a connection and for the lock, plans
 * again after a lost race, and looks in the replica for a change whose answer was lost, which takes a client with a lock:
 * without one, and when `signal` aborts before it is clear, that is `outcome-unknown`.
 */
export async function carryOut<T, V, R>(
  client: OvsdbClient<T, V>,
  recipe: Recipe<T, V, R>,
  { signal }: { readonly signal: AbortSignal },
): Promise<R> {
  for (let failures = 0; ; ) {
    await client.ready(signal)
    const transaction = newTransaction(client.schema)
    const { revision } = client.replica
    const read = recipe.write(transaction, client.replica)
    try {
      return read(await client.transact(transaction, { signal }))
    } catch (error) {
      if (!(error instanceof OvsdbError)) throw error
      const { problem } = error
      if (problem.kind === 'outcome-unknown' && recipe.find !== undefined && !signal.aborted) {
        await client.settled(signal).catch(() => {
          throw error
        })
        const found = recipe.find(client.replica)
        if (found !== undefined) return found
      } else if (isLostRace(problem)) {
        const hasWinner = problem.kind !== 'rejected' && client.replica.revision > revision
        if (!hasWinner && ++failures >= maxAttempts) throw error
      } else if (!isNotDone(problem)) throw error
    }
  }
}

/** Nothing was committed, and the database is not as it was when the transaction was planned. */
function isLostRace(problem: OvsdbProblem): boolean {
  if (problem.kind === 'precondition-failed' || problem.kind === 'row-vanished') return true
  const races = ['constraint violation', 'referential integrity violation']
  return problem.kind === 'rejected' && races.includes(problem.error)
}

/** The connection, the lock or the whole database went before anything was done. */
function isNotDone(problem: OvsdbProblem): boolean {
  if (problem.kind === 'not-connected' || problem.kind === 'lock-lost') return true
  return problem.kind === 'rejected' && problem.error === 'unknown database'
}
