import { shuttingDown, sleep } from '../lib/abort.js'
import type { Child } from './child.js'
import type { Exit, ProcessName } from './errors.js'

/** What befell a supervised process; in order, per process. */
export type ProcessEvent =
  | { readonly kind: 'started'; readonly process: ProcessName; readonly pid: number; readonly tookMs: number }
  | {
      readonly kind: 'died'
      readonly process: ProcessName
      readonly pid: number
      readonly exit: Exit
      readonly lastWords: string
      readonly retryInMs: number
    }
  | { readonly kind: 'restarted'; readonly process: ProcessName; readonly pid: number; readonly tookMs: number }
  | {
      readonly kind: 'restart-failed'
      readonly process: ProcessName
      readonly error: unknown
      readonly retryInMs: number
    }
  | { readonly kind: 'stopped'; readonly process: ProcessName; readonly clean: boolean }

export type ProcessStatus =
  | { readonly state: 'running'; readonly pid: number }
  | { readonly state: 'restarting' }
  | { readonly state: 'stopped' }

export interface Supervised {
  readonly status: ProcessStatus
  /** Ends the supervision and the process; `clean` when the process took leave by itself. Idempotent. */
  stop(): Promise<{ readonly clean: boolean }>
}

export interface SupervisionSpec {
  readonly name: ProcessName
  /** Resolves when the process is ready; rejects with nothing left running. */
  readonly start: (signal: AbortSignal) => Promise<Child>
  readonly stop: (child: Child) => Promise<{ readonly clean: boolean }>
  readonly onEvent: (event: ProcessEvent) => void
}

/**
 * Starts a process and keeps it running until `stop`: one that dies is started again after 0.1 s, then after twice
 * as long each time up to 5 s; one that ran for 10 s begins anew. `signal` covers the first start, which may reject.
 */
export async function supervise(spec: SupervisionSpec, signal: AbortSignal): Promise<Supervised> {
  const began = performance.now()
  const first = await spec.start(signal)
  const stopping = new AbortController()
  let status: ProcessStatus = { state: 'running', pid: first.pid }
  spec.onEvent({ kind: 'started', process: spec.name, pid: first.pid, tookMs: elapsedMs(began) })

  const keepRunning = async (): Promise<{ readonly clean: boolean }> => {
    let child: Child | undefined = first
    let startedAt = began
    let backoffMs = firstBackoffMs
    while (child !== undefined) {
      const exit = await exitedOrStopping(child, stopping.signal)
      if (exit === undefined) return spec.stop(child)
      if (performance.now() - startedAt >= stableAfterMs) backoffMs = firstBackoffMs
      status = { state: 'restarting' }
      const { pid } = child
      const retryInMs = backoffMs
      spec.onEvent({ kind: 'died', process: spec.name, pid, exit, lastWords: child.lastWords(), retryInMs })
      startedAt = performance.now()
      const again: Restarted | undefined = await startAgain(spec, backoffMs, stopping.signal)
      child = again?.child
      if (again === undefined) break
      backoffMs = again.backoffMs
      status = { state: 'running', pid: again.child.pid }
    }
    return { clean: false }
  }
  const ended = keepRunning().then(outcome => {
    status = { state: 'stopped' }
    spec.onEvent({ kind: 'stopped', process: spec.name, clean: outcome.clean })
    return outcome
  })
  return {
    get status() {
      return status
    },
    stop: () => {
      stopping.abort(shuttingDown())
      return ended
    },
  }
}

interface Restarted {
  readonly child: Child
  /** For the next death. */
  readonly backoffMs: number
}

const firstBackoffMs = 100
const maxBackoffMs = 5000
const stableAfterMs = 10_000

function longer(backoffMs: number): number {
  return Math.min(backoffMs * 2, maxBackoffMs)
}

/** Tries until it runs; undefined when the supervision ends first. */
async function startAgain(
  spec: SupervisionSpec,
  backoffMs: number,
  stopping: AbortSignal,
): Promise<Restarted | undefined> {
  for (let nextMs = backoffMs; ; nextMs = longer(nextMs)) {
    try {
      await sleep(nextMs, stopping)
      const began = performance.now()
      const child = await spec.start(stopping)
      spec.onEvent({ kind: 'restarted', process: spec.name, pid: child.pid, tookMs: elapsedMs(began) })
      return { child, backoffMs: longer(nextMs) }
    } catch (error) {
      if (stopping.aborted) return undefined
      spec.onEvent({ kind: 'restart-failed', process: spec.name, error, retryInMs: longer(nextMs) })
    }
  }
}

/** How the process ended, or undefined when the supervision is to end while it runs. */
async function exitedOrStopping(child: Child, stopping: AbortSignal): Promise<Exit | undefined> {
  if (stopping.aborted) return undefined
  return await new Promise(resolve => {
    const onStop = (): void => resolve(undefined)
    stopping.addEventListener('abort', onStop, { once: true })
    void child.exited.then(exit => {
      stopping.removeEventListener('abort', onStop)
      resolve(exit)
    })
  })
}

function elapsedMs(since: number): number {
  return Math.round(performance.now() - since)
}
