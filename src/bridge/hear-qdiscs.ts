import type { Kernel, QdiscEvent } from '../kernel/index.js'
import { sleep } from '../lib/abort.js'
import type { Notice } from './notice.js'

/** How long to wait before trying to listen again. */
const pauseMs = 1_000

/** Hands over what the kernel tells of qdiscs, until the lifetime ends; listens again whenever that fails. */
export async function hearQdiscs(
  { kernel, lifetime, notice }: { readonly kernel: Kernel; readonly lifetime: AbortSignal; readonly notice: Notice },
  hear: (event: QdiscEvent) => void,
): Promise<void> {
  while (!lifetime.aborted) {
    try {
      for await (const event of kernel.watchQdiscs(lifetime)) hear(event)
    } catch (error) {
      if (lifetime.aborted) return
      notice('warn', 'the kernel no longer tells of qdiscs; trying again', { error })
    }
    await sleep(pauseMs, lifetime).catch(() => undefined)
  }
}
