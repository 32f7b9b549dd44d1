import { abortScope, raceAbort } from '../lib/abort.js'
import type { Call } from './call.js'
import type { OvsTransaction, Part, Receipt } from './commit.js'
import type { Host } from './host.js'
import type { OvsReplica } from './ovs.js'
import { problemOf } from './problem-of.js'

/** What takes a step of an operation back. */
export type UndoStep = () => Promise<unknown>

/**
 * Runs `work`; when it fails, takes back in reverse order what it had said to undo, then throws what it threw.
 * The steps go on when the call has ended, and one that fails does not stop the others. The caller waits for them as long
 * as it has time, and not at all when the database has to come back first.
 */
export async function undoingOnFailure<T>(
  host: Host,
  call: Call,
  work: (undo: (step: UndoStep) => void) => Promise<T>,
): Promise<T> {
  const steps: UndoStep[] = []
  try {
    return await work(step => steps.push(step))
  } catch (error) {
    const undone = undoAll(host, steps.reverse())
    host.undoing.add(undone)
    void undone.then(() => host.undoing.delete(undone))
    // The deadline ends the wait, and not the call's own error.
    if (!mayHaveHappened(error)) await raceAbort(undone, call.signal).catch(() => undefined)
    throw error
  }
}

/** Waits for calls that are being undone, so long at most: what needs a database that is away is left to the next start. */
export async function allUndone({ undoing }: Host, withinMs: number): Promise<void> {
  using scope = abortScope({ deadline: Date.now() + withinMs })
  await raceAbort(Promise.all(undoing), scope.signal).catch(() => undefined)
}

async function undoAll(host: Host, steps: readonly UndoStep[]): Promise<void> {
  for (const step of steps) {
    try {
      await step()
    } catch (error) {
      // What is left is in OVSDB or carries our mark: the next start finds it.
      if (!host.lifetime.aborted) host.notice('error', 'undoing a failed call left something behind', { error })
    }
  }
}

/** Commits a part, and has `takeBack` undo it when the call fails later, or when nobody knows whether it was committed. */
export async function committing<R>(
  host: Host,
  part: Part<R>,
  call: Call,
  undo: (step: UndoStep) => void,
  takeBack: TakeBack,
): Promise<Receipt<R>> {
  const step = () => commitUndo(host, part, call, takeBack)
  try {
    const receipt = await host.committer.commit(part, call)
    undo(step)
    return receipt
  } catch (error) {
    if (mayHaveHappened(error)) undo(step)
    throw error
  }
}

/** Adds what undoes a part, as far as the replica shows that it came into being. */
export type TakeBack = (transaction: OvsTransaction, replica: OvsReplica) => void

async function commitUndo(host: Host, { owns, needs }: Part<unknown>, call: Call, takeBack: TakeBack): Promise<void> {
  const part: Part<void> = {
    owns,
    needs,
    reconfigures: true,
    undoes: true,
    write: (transaction, replica) => {
      takeBack(transaction, replica)
      return () => undefined
    },
  }
  for (;;) {
    // A connection that was cut hides what became of the part.
    await host.ovsdb.ready(host.lifetime)
    try {
      await host.committer.commit(part, { signal: host.lifetime, caller: `undo of ${call.caller}` })
      return
    } catch (error) {
      // It was waiting for its turn when the connection was lost.
      if (problemOf(error)?.kind !== 'backend-unavailable' || host.ovsdb.status.state === 'ready') throw error
    }
  }
}

function mayHaveHappened(error: unknown): boolean {
  return problemOf(error)?.kind === 'outcome-unknown'
}
