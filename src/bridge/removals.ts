import type { Deletion, Kernel, LinkTarget } from '../kernel/index.js'

interface Doomed {
  readonly targets: readonly LinkTarget[]
  readonly resolve: (deletion: Deletion) => void
  readonly reject: (error: unknown) => void
}

/**
 * Removes devices, those that wait together in one group. A single removal holds the kernel for a grace period of RCU, and
 * hundreds in a group hardly longer.
 */
export class DeviceRemovals {
  readonly #kernel: Kernel
  readonly #lifetime: AbortSignal
  #waiting: Doomed[] = []
  #running = false

  constructor(kernel: Kernel, lifetime: AbortSignal) {
    this.#kernel = kernel
    this.#lifetime = lifetime
  }

  /**
   * Resolves when what was there of the targets is gone. A target that cannot be deleted is told in `failed`.
   * It goes on when its caller has left: a removal that was begun is finished.
   */
  remove(targets: readonly LinkTarget[]): Promise<Deletion> {
    if (targets.length === 0) return Promise.resolve({ deleted: [], missing: [], failed: [] })
    return new Promise((resolve, reject) => {
      this.#waiting.push({ targets, resolve, reject })
      void this.#run()
    })
  }

  async #run(): Promise<void> {
    if (this.#running) return
    this.#running = true
    try {
      while (this.#waiting.length > 0) await this.#removeAll(this.#waiting.splice(0))
    } finally {
      this.#running = false
    }
  }

  async #removeAll(batch: readonly Doomed[]): Promise<void> {
    try {
      const targets = batch.flatMap(doomed => doomed.targets)
      const deletion = await this.#kernel.deleteLinks(targets, this.#lifetime)
      for (const doomed of batch) {
        const own = new Set(doomed.targets.map(target => target.name))
        doomed.resolve({
          deleted: deletion.deleted.filter(name => own.has(name)),
          missing: deletion.missing.filter(name => own.has(name)),
          failed: deletion.failed.filter(({ name }) => own.has(name)),
        })
      }
    } catch (error) {
      for (const doomed of batch) doomed.reject(error)
    }
  }
}
