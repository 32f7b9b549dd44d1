import type { CaptureProblem } from './errors.js'
import type { LiveHandle } from './live-handle.js'
import type { CaptureEnd } from './messages.js'

/** What a step came to: there may be more at once, or nothing is there now, or it was the last, or it cannot begin. */
export type Step = 'more' | 'waiting' | CaptureEnd | { readonly kind: 'refused'; readonly problem: CaptureProblem }

/** A capture in the worker. */
export interface Running {
  /** What to wait for. */
  readonly watched: readonly LiveHandle[]
  /** When it is to be stepped without anything having come, by performance.now(). */
  readonly dueMs: number
  /** Takes a batch of what is there. */
  step(nowMs: number): Step
  /** Has it end within a moment. */
  stop(nowMs: number): void
  /** Of a stream: takes in what one of its devices has had before now, and nothing else. */
  endSource?(index: number, nowMs: number): void
  /** Gives back all but the devices' handles. */
  close(): void
}
