import type { Call } from './call.js'
import type { Host } from './host.js'

/** What takes a step of an operation back. */
export type UndoStep = () => Promise<unknown>

/**
 * Runs `work`; when it fails, takes back in reverse order what it had said to undo, then throws what it threw.
 * The steps go on when the call has ended, and one that fails does not stop the others. The caller waits for them as long
 * as it has time.
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
    if (!call.signal.aborted) await undone
    throw error
  }
}

async function undoAll(host: Host, steps: readonly UndoStep[]): Promise<void> {
  for (const step of steps) {
    try {
      await step()
    } catch (error) {
      // What is left is in OVSDB or carries our mark: the next start finds it.
      host.notice('error', 'undoing a failed call left something behind', { error })
    }
  }
}
