import { abortReason } from '../lib/abort.js'
import type { CaptureError } from './errors.js'
import type { CaptureEnd, StreamChunk } from './messages.js'

type Next = { readonly kind: 'chunk'; readonly chunk: StreamChunk } | { readonly kind: 'end'; readonly end: CaptureEnd }

/** Chunks that wait for their reader. */
export class StreamReader {
  readonly #chunks: StreamChunk[] = []
  #settled: { readonly end: CaptureEnd } | { readonly error: CaptureError } | undefined
  #wake: () => void = () => {}

  push(chunk: StreamChunk): void {
    this.#chunks.push(chunk)
    this.#wake()
  }

  settle(outcome: { readonly end: CaptureEnd } | { readonly error: CaptureError }): void {
    this.#settled ??= outcome
    this.#wake()
  }

  /** The next chunk, or the end. */
  async next(signal: AbortSignal): Promise<Next> {
    for (;;) {
      if (signal.aborted) throw abortReason(signal)
      const chunk = this.#chunks.shift()
      if (chunk !== undefined) return { kind: 'chunk', chunk }
      if (this.#settled !== undefined && 'error' in this.#settled) throw this.#settled.error
      if (this.#settled !== undefined) return { kind: 'end', end: this.#settled.end }
      await new Promise<void>(resolve => {
        const wake = () => {
          signal.removeEventListener('abort', wake)
          resolve()
        }
        this.#wake = wake
        signal.addEventListener('abort', wake, { once: true })
      })
    }
  }
}
