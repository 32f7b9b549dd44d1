import { Worker } from 'node:worker_threads'

/** A thread that sends ARP requests into a tap without end, each for an address of its own. */
export interface ArpFlood extends AsyncDisposable {
  /** How many it has sent so far. */
  readonly sent: number
}

/** What the thread needs, its `workerData`. */
export interface FloodOrder {
  readonly tap: string
  readonly framesPerSecond: number
  /** Frames sent so far, and whether it is to stop. */
  readonly shared: Int32Array
}

export const sentAt = 0
export const stopAt = 1

/** The tap is one of this thread's namespace that nobody else has open. */
export function startArpFlood(tap: string, framesPerSecond: number): ArpFlood {
  const shared = new Int32Array(new SharedArrayBuffer(8))
  const order: FloodOrder = { tap, framesPerSecond, shared }
  const worker = new Worker(new URL('./arp-flood-worker.js', import.meta.url), { workerData: order })
  const ended = new Promise<void>((resolve, reject) => worker.once('error', reject).once('exit', () => resolve()))
  return {
    get sent() {
      return Atomics.load(shared, sentAt)
    },
    [Symbol.asyncDispose]: async () => {
      Atomics.store(shared, stopAt, 1)
      await ended
    },
  }
}
