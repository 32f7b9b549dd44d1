import { EventEmitter, once } from 'node:events'
import type { TapRecord } from './ownership-tap.js'

/** Records of defunct taps whose device this daemon has seen go: nobody makes it again, and what is left is the port. */
export class BareTaps {
  readonly #records = new WeakSet<TapRecord>()
  readonly #growth = new EventEmitter<{ grown: [] }>()

  add(record: TapRecord): void {
    this.#records.add(record)
    this.#growth.emit('grown')
  }

  has(record: TapRecord): boolean {
    return this.#records.has(record)
  }

  /** Resolves when there are more than now. Throws when the signal aborts before. */
  async grown(signal: AbortSignal): Promise<void> {
    await once(this.#growth, 'grown', { signal })
  }
}
