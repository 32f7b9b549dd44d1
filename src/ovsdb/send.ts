import { whenAborted } from '../lib/abort.js'
import { OvsdbError, problemOf } from './errors.js'
import { type Outcome, type Plan, readOutcome } from './operation.js'
import type { Counters } from './readings.js'
import type { Rpc } from './rpc.js'
import type { Committed } from './transaction.js'
import type { Undecided } from './undecided.js'

/** What the sending of transactions keeps account of. */
export interface Accounts {
  readonly undecided: Undecided
  readonly counters: Counters
  /** A transaction has been decided. */
  readonly onDecided: () => void
}

/**
 * Sends a transaction and reads its answer (RFC 7047 §4.1.3). One that is given up is also cancelled (§4.1.4), which ends a
 * `wait` that the server is in; the caller does not wait for that.
 */
export async function sendTransaction(
  rpc: Rpc,
  database: string,
  plan: Plan,
  signal: AbortSignal,
  { undecided, counters, onDecided }: Accounts,
): Promise<Committed> {
  const { id, answer } = rpc.call('transact', [database, ...plan.wire], result => judge(plan, result))
  if (id === undefined) throw await answer.catch((error: unknown) => error)
  const sent = undecided.add(plan.wire.length)
  const account = (decided: boolean) => {
    if (decided) undecided.decide(sent)
    else undecided.strand(sent)
    onDecided()
  }
  try {
    const outcome = await answerOrUnknown(answer, signal, account, () => rpc.cancel(id))
    if (outcome instanceof OvsdbError) throw outcome
    counters.transactionsCommitted++
    return committed(outcome)
  } catch (error) {
    if (problemOf(error).kind === 'outcome-unknown') counters.transactionsUnknown++
    else counters.transactionsRefused++
    throw error
  }
}

/** The outcome, or what the server refused with. Throws what is no answer at all, which ends the connection. */
function judge(plan: Plan, result: unknown): Outcome | OvsdbError {
  try {
    return readOutcome(plan, result)
  } catch (error) {
    if (error instanceof OvsdbError && error.problem.kind !== 'protocol') return error
    throw error
  }
}

/**
 * The server's answer to what has left; without one nobody knows the outcome. `account` is told whether the server has decided,
 * also after the caller has given up.
 */
function answerOrUnknown<A>(
  answer: Promise<A>,
  signal: AbortSignal,
  account: (decided: boolean) => void,
  cancel: () => void,
): Promise<A> {
  return new Promise((resolve, reject) => {
    const giveUp = (message: string, cause: unknown) =>
      reject(new OvsdbError({ kind: 'outcome-unknown', message }, { cause }))
    const unlisten = whenAborted(signal, () => {
      giveUp('given up while the transaction was under way', signal.reason)
      cancel()
    })
    answer.then(
      result => {
        unlisten()
        account(true)
        resolve(result)
      },
      (error: unknown) => {
        unlisten()
        const { kind, message } = problemOf(error)
        account(kind === 'rejected')
        if (kind === 'rejected') reject(error)
        else giveUp(`the connection was lost while the transaction was under way: ${message}`, error)
      },
    )
  })
}

function committed({ inserted, selected }: Outcome): Committed {
  return {
    uuid(row) {
      const uuid = inserted.get(row)
      if (uuid === undefined) throw new TypeError('the row was inserted by another transaction')
      return uuid
    },
    row({ operationIndex, decode }) {
      const row = selected.get(operationIndex)
      return row === undefined ? undefined : decode(row)
    },
  }
}
