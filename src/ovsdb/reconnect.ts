import { assertNever } from '../lib/assert-never.js'

/** How patient to be, in milliseconds. */
export interface Patience {
  /** Pause after the first loss; doubled after each attempt that fails, up to `maxBackoffMs`. */
  readonly minBackoffMs: number
  readonly maxBackoffMs: number
  /** For an attempt to connect. */
  readonly connectTimeoutMs: number
  /** Silence after which an echo is sent, and then again until the connection is given up. */
  readonly probeIntervalMs: number
  /**
   * For a connection to become useful, that is for its contents to be loaded, and for a message to become whole. A server that
   * echoes and does nothing else, and one whose message never ends, are given up after it.
   */
  readonly loadTimeoutMs: number
}

export const defaultPatience: Patience = {
  minBackoffMs: 1000,
  maxBackoffMs: 8000,
  connectTimeoutMs: 5000,
  probeIntervalMs: 5000,
  loadTimeoutMs: 120_000,
}

/**
 * Where a connection stands. Times are on the caller's clock, in milliseconds; nothing here reads one.
 * `backoffMs` is the pause that follows the next loss.
 */
export type Reconnect =
  /** No connection; the next attempt is due at `untilMs`. */
  | { readonly phase: 'backoff'; readonly untilMs: number; readonly backoffMs: number }
  /** An attempt is under way. */
  | { readonly phase: 'connecting'; readonly sinceMs: number; readonly backoffMs: number }
  /** Connected, and the server spoke last at `heardMs`. */
  | (Connected & { readonly phase: 'active'; readonly heardMs: number })
  /** Connected, but silent; an echo was sent at `probedMs`. */
  | (Connected & { readonly phase: 'probing'; readonly probedMs: number })

interface Connected {
  readonly backoffMs: number
  /** When the contents have to be loaded; Infinity once they are. */
  readonly usefulByMs: number
  /** When the message that is coming in has to be whole; Infinity while none is. */
  readonly wholeByMs: number
}

/** What the holder of the connection has to do now. `disconnect` is to be followed by {@link lost}. */
export type Action = 'connect' | 'probe' | 'disconnect'

/** Not connected yet, and due at once. */
export function initialReconnect(nowMs: number, patience: Patience): Reconnect {
  return { phase: 'backoff', untilMs: nowMs, backoffMs: patience.minBackoffMs }
}

/** When {@link step} has something to do, unless something else happens first. */
export function dueMs(state: Reconnect, patience: Patience): number {
  switch (state.phase) {
    case 'backoff':
      return state.untilMs
    case 'connecting':
      return state.sinceMs + patience.connectTimeoutMs
    case 'active':
      return Math.min(state.heardMs + patience.probeIntervalMs, state.usefulByMs, state.wholeByMs)
    case 'probing':
      return Math.min(state.probedMs + patience.probeIntervalMs, state.usefulByMs, state.wholeByMs)
    default:
      return assertNever(state)
  }
}

/** What is due at `nowMs`, if anything, and the state once that is done. */
export function step(state: Reconnect, nowMs: number, patience: Patience): { next: Reconnect; action?: Action } {
  if (nowMs < dueMs(state, patience)) return { next: state }
  const { backoffMs } = state
  switch (state.phase) {
    case 'backoff':
      return { next: { phase: 'connecting', sinceMs: nowMs, backoffMs }, action: 'connect' }
    case 'active':
      if (nowMs >= Math.min(state.usefulByMs, state.wholeByMs)) return { next: state, action: 'disconnect' }
      return { next: { ...state, phase: 'probing', probedMs: nowMs }, action: 'probe' }
    case 'connecting':
    case 'probing':
      return { next: state, action: 'disconnect' }
    default:
      return assertNever(state)
  }
}

/**
 * The server was heard: the attempt succeeded, or bytes came. `isStillPartial`: the bytes neither began nor completed a
 * message.
 */
export function heard(state: Reconnect, nowMs: number, patience: Patience, isStillPartial = false): Reconnect {
  const { backoffMs } = state
  const timeoutMs = nowMs + patience.loadTimeoutMs
  switch (state.phase) {
    case 'backoff':
    case 'connecting':
      return { phase: 'active', heardMs: nowMs, usefulByMs: timeoutMs, wholeByMs: Number.POSITIVE_INFINITY, backoffMs }
    case 'active':
    case 'probing': {
      const wholeByMs = isStillPartial ? Math.min(state.wholeByMs, timeoutMs) : Number.POSITIVE_INFINITY
      return { phase: 'active', heardMs: nowMs, usefulByMs: state.usefulByMs, wholeByMs, backoffMs }
    }
    default:
      return assertNever(state)
  }
}

/** The connection turned out useful: the next loss starts again from the shortest pause. */
export function useful(state: Reconnect, patience: Patience): Reconnect {
  return withUsefulBy(state, Number.POSITIVE_INFINITY, patience.minBackoffMs)
}

/** What the connection is for has to be loaded again. */
export function loading(state: Reconnect, nowMs: number, patience: Patience): Reconnect {
  return withUsefulBy(state, nowMs + patience.loadTimeoutMs, state.backoffMs)
}

function withUsefulBy(state: Reconnect, usefulByMs: number, backoffMs: number): Reconnect {
  const isConnected = state.phase === 'active' || state.phase === 'probing'
  return isConnected ? { ...state, usefulByMs, backoffMs } : { ...state, backoffMs }
}

/**
 * The connection, or the attempt, is over. `jitter` from 0 to 1 takes up to a quarter off the pause, so that many
 * clients of one server do not return in step.
 */
export function lost(state: Reconnect, nowMs: number, patience: Patience, jitter: number): Reconnect {
  const { backoffMs } = state
  return {
    phase: 'backoff',
    untilMs: nowMs + backoffMs * (1 - jitter / 4),
    backoffMs: Math.min(backoffMs * 2, patience.maxBackoffMs),
  }
}
