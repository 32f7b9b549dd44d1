import { setImmediate as otherWork } from 'node:timers/promises'

/** How long work may hold the thread at a time, so that no call waits for it noticeably. */
const turnMs = 1

/** More items than this are not worked on without a look at the clock. */
const itemsPerLook = 64

/** Nor are more than this in one turn, whatever the clock says. */
export const itemsPerTurn = 1_024

/** Works through many items, and lets other work go first every millisecond. */
export async function inTurns<T>(items: Iterable<T>, work: (item: T) => void): Promise<void> {
  let count = 0
  let turnAt = performance.now()
  for (const item of items) {
    work(item)
    if (++count % itemsPerLook !== 0) continue
    if (count % itemsPerTurn !== 0 && performance.now() - turnAt < turnMs) continue
    await otherWork()
    turnAt = performance.now()
  }
}
