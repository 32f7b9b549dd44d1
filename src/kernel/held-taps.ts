import type { WorkerContext } from './worker-context.js'

/** More that are held at a time would take the descriptors of others. */
const maxHeld = 1_024

/** Keeps the descriptor of a tap that was made. */
export function holdTap({ syscalls, held }: WorkerContext, index: number, fd: number): void {
  if (held.size < maxHeld) held.set(index, fd)
  else syscalls.close(fd)
}

/**
 * Lets go of taps, which others can attach to from then on. Each closing waits for a grace period of RCU, and with it all who
 * want to change a device: so it is not done while others are being made. Of a device that is gone it costs nothing.
 */
export function releaseTaps({ syscalls, held }: WorkerContext, indexes: readonly number[]): void {
  for (const index of indexes) {
    const fd = held.get(index)
    if (fd !== undefined) syscalls.close(fd)
    held.delete(index)
  }
}
