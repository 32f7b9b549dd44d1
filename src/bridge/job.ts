import { abortReason, whenAborted } from '../lib/abort.js'
import type { Call } from './call.js'
import type { Part, Receipt } from './part.js'
import { BridgeError } from './problem.js'

/** A part on its way into the database. */
export interface Job {
  readonly part: Part<unknown>
  readonly caller: string
  readonly signal: AbortSignal
  readonly settle: (outcome: Outcome) => void
  /** Resolves when it is settled, or was taken back before it was sent. */
  readonly ended: Promise<void>
}

export type Outcome =
  | { readonly ok: true; readonly epoch: bigint | undefined }
  | { readonly ok: false; readonly error: unknown }

/**
 * A job, and what its caller gets. When the call ends, `takeBack` is asked for it: while that is possible nothing was done, and
 * the receipt rejects with the call's end; later with `outcome-unknown`.
 */
export function openJob<R>(
  part: Part<R>,
  { caller, signal }: Call,
  takeBack: (job: Job) => boolean,
): { readonly job: Job; readonly receipt: Promise<Receipt<R>> } {
  // The part's own type comes back through this variable, so that the queue need not know it.
  let result: { readonly value: R } | undefined
  const write: Part<unknown>['write'] = (transaction, replica) => {
    const read = part.write(transaction, replica)
    return () => (result = { value: read() })
  }
  let end = () => {}
  const ended = new Promise<void>(resolve => {
    end = resolve
  })
  let settle: Job['settle'] = () => {}
  const job: Job = { part: { ...part, write }, caller, signal, ended, settle: outcome => settle(outcome) }
  const receipt = new Promise<Receipt<R>>((resolve, reject) => {
    const unlisten = whenAborted(signal, () => {
      if (!takeBack(job)) return reject(sentAndLeft(signal))
      end()
      reject(abortReason(signal))
    })
    settle = outcome => {
      end()
      unlisten()
      if (!outcome.ok) reject(outcome.error)
      else if (result !== undefined) resolve({ result: result.value, epoch: outcome.epoch })
    }
  })
  return { job, receipt }
}

function sentAndLeft(signal: AbortSignal): BridgeError {
  const message = `${abortReason(signal).message} while the change was on its way to the database`
  return new BridgeError({ kind: 'outcome-unknown', reason: 'OUTCOME_UNKNOWN', message }, { cause: signal.reason })
}
