import { setMaxListeners } from 'node:events'
import { remembered } from './remembered.js'

/** Why a wait was given up. */
export type AbortCause = 'deadline' | 'cancelled' | 'shutting-down'

/** The reason of every signal of ours; what `signal.throwIfAborted()` throws. */
export class Aborted extends Error {
  override readonly name = 'Aborted'
  readonly why: AbortCause

  constructor(why: AbortCause, message: string) {
    super(message)
    this.why = why
  }
}

export function deadlineExceeded(message = 'the deadline passed'): Aborted {
  return new Aborted('deadline', message)
}

export function cancelled(message = 'the caller went away'): Aborted {
  return new Aborted('cancelled', message)
}

export function shuttingDown(message = 'the service is shutting down'): Aborted {
  return new Aborted('shutting-down', message)
}

/** The reason of an aborted signal as an `Error`, whatever it was aborted with. */
export function abortReason(signal: AbortSignal): Error {
  const reason: unknown = signal.reason
  return reason instanceof Error ? reason : cancelled(String(reason))
}

/**
 * The `Aborted` behind an error: itself, or the reason of `signal` when Node's own AbortError (from timers, streams,
 * events) only says that the signal fired. Undefined for every other error.
 */
export function abortedBy(error: unknown, signal: AbortSignal): Aborted | undefined {
  if (error instanceof Aborted) return error
  if (!signal.aborted || !(error instanceof Error) || error.name !== 'AbortError') return undefined
  return signal.reason instanceof Aborted ? signal.reason : cancelled(error.message)
}

/** Longest delay that setTimeout takes; a longer one would fire at once. */
export const maxTimerMs = 2 ** 31 - 1

/** A signal with an end: disposing it frees its timer and lets go of its parents, without aborting it. */
export interface AbortScope extends Disposable {
  readonly signal: AbortSignal
  /** Aborts the scope; only the first reason counts. */
  abort(reason: Aborted): void
}

export interface AbortScopeOptions {
  /** Milliseconds since the epoch; Infinity or absent: none. More than 24 days away never fires. */
  readonly deadline?: number
  /** The scope aborts with the reason of the first of them that does. */
  readonly parents?: readonly AbortSignal[]
}

/**
 * Composes a deadline and signals that may outlive it. Unlike `AbortSignal.any`, nothing of the scope stays with a
 * long-lived parent once the scope is disposed.
 */
export function abortScope(options: AbortScopeOptions = {}): AbortScope {
  const { deadline = Number.POSITIVE_INFINITY, parents = [] } = options
  const controller = new AbortController()
  // One call may well wait for hundreds of things at once; Node would print a warning from the eleventh on.
  setMaxListeners(0, controller.signal)
  const released: (() => void)[] = []
  const release = () => {
    for (const undo of released.splice(0)) undo()
  }
  const abort = (reason: unknown) => {
    release()
    controller.abort(reason)
  }
  for (const parent of parents) {
    const onAbort = () => abort(abortReason(parent))
    if (parent.aborted) abort(abortReason(parent))
    else {
      parent.addEventListener('abort', onAbort, { once: true })
      released.push(() => parent.removeEventListener('abort', onAbort))
    }
  }
  const leftMs = deadline - Date.now()
  if (leftMs <= 0) abort(deadlineExceeded())
  else if (leftMs <= maxTimerMs) {
    const timer = setTimeout(() => abort(deadlineExceeded()), leftMs)
    released.push(() => clearTimeout(timer))
  }
  if (controller.signal.aborted) release()
  return { signal: controller.signal, abort, [Symbol.dispose]: release }
}

/**
 * Settles as `promise` does, or rejects with the signal's reason when that comes first. The promise itself goes on;
 * what becomes of it is then ignored.
 */
export function raceAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return race(promise, signal, { begin: giveUp => giveUp(abortReason(signal)), release: () => {} })
}

/** As {@link raceAbort}, but rejects `graceMs` milliseconds after the signal aborts, with what `overdue` makes of it. */
export function raceGrace<T>(
  promise: Promise<T>,
  signal: AbortSignal,
  graceMs: number,
  overdue: (signal: AbortSignal) => Error,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  return race(promise, signal, {
    begin: giveUp => (timer = setTimeout(() => giveUp(overdue(signal)), graceMs)),
    release: () => clearTimeout(timer),
  })
}

/** What leads to giving up once a signal has aborted, and how it is let go when the promise was first. */
interface Patience {
  readonly begin: (giveUp: (error: Error) => void) => void
  readonly release: () => void
}

function race<T>(promise: Promise<T>, signal: AbortSignal, patience: Patience): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => patience.begin(reject)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
    const release = () => {
      patience.release()
      signal.removeEventListener('abort', onAbort)
    }
    promise.then(
      value => {
        release()
        resolve(value)
      },
      (error: unknown) => {
        release()
        reject(error)
      },
    )
  })
}

/** Those who wait for one signal, behind the one listener that it has of ours. */
interface Crowd {
  readonly callbacks: Set<() => void>
  readonly onAbort: () => void
}

const crowdOf = remembered((): Crowd => {
  const callbacks = new Set<() => void>()
  const onAbort = () => {
    const all = [...callbacks]
    callbacks.clear()
    for (const callback of all) callback()
  }
  return { callbacks, onAbort }
})

/**
 * Calls `callback` when `signal` aborts, unless the answer is called before. Ten thousand may wait for one signal: Node would
 * walk through all of its listeners for each that is added.
 */
export function whenAborted(signal: AbortSignal, callback: () => void): () => void {
  const { callbacks, onAbort } = crowdOf(signal)
  if (callbacks.size === 0) signal.addEventListener('abort', onAbort, { once: true })
  callbacks.add(callback)
  return () => {
    if (callbacks.delete(callback) && callbacks.size === 0) signal.removeEventListener('abort', onAbort)
  }
}

/** Resolves after `delayMs` milliseconds, or rejects with the signal's reason; leaves no timer behind. */
export function sleep(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer)
      reject(abortReason(signal))
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, delayMs)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
}
