import { assertNever } from '../lib/assert-never.js'
import { type Connection, type ConnectionOptions, openConnection } from './connection.js'
import type { OvsdbProblem } from './errors.js'
import {
  type Action,
  dueMs,
  heard,
  initialReconnect,
  loading,
  lost,
  type Patience,
  type Reconnect,
  step,
  useful,
} from './reconnect.js'
import type { Notification } from './rpc.js'

export interface LineListener {
  readonly onConnecting: () => void
  /** There is a connection. The answer takes its notifications. */
  readonly onConnected: (connection: Connection) => (notification: Notification) => void
  /** The connection, or the attempt, is over; the next attempt is made in `retryInMs`. */
  readonly onLost: (problem: OvsdbProblem, retryInMs: number) => void
}

export interface LineOptions extends ConnectionOptions {
  readonly patience: Patience
  /** What the server is given for the work that it has been asked for, beside the probe's interval; `loadTimeoutMs` at most. */
  readonly workMs: () => number
}

/** What is due comes nearer when work is done, and the timer is not told. */
const longestSleepMs = 1000

/** Has one connection after another for ever: the machine of reconnect.ts with a clock, a timer and a socket. */
export class Line {
  readonly #options: LineOptions
  readonly #listener: LineListener
  #reconnect: Reconnect
  #connection: Connection | undefined
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(options: LineOptions, listener: LineListener) {
    this.#options = options
    this.#listener = listener
    this.#reconnect = initialReconnect(performance.now(), options.patience)
  }

  /** The present connection or attempt. */
  get connection(): Connection | undefined {
    return this.#connection
  }

  /** Does what is due, and sets the timer for what is due next. To be called once; it goes on by itself. */
  step(): void {
    if (this.#isClosed) return
    const patience = this.#patience
    const { next, action } = step(this.#reconnect, performance.now(), patience)
    this.#reconnect = next
    if (action !== undefined) this.#act(action)
    clearTimeout(this.#timer)
    // One millisecond more: a timer may fire a little before its time.
    const delayMs = Math.max(dueMs(this.#reconnect, patience) - performance.now(), 0) + 1
    // What came while the program was busy elsewhere is read between a timer and an immediate.
    this.#timer = setTimeout(() => setImmediate(() => this.step()), Math.min(delayMs, longestSleepMs))
  }

  /** The connection serves its purpose. */
  useful(): void {
    this.#reconnect = useful(this.#reconnect, this.#patience)
  }

  /** The connection has to become useful again. */
  loading(): void {
    this.#reconnect = loading(this.#reconnect, performance.now(), this.#patience)
    this.step()
  }

  close(problem: OvsdbProblem): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
    this.#connection?.close(problem)
  }

  get #patience(): Patience {
    const { patience, workMs } = this.#options
    return { ...patience, probeIntervalMs: patience.probeIntervalMs + Math.min(workMs(), patience.loadTimeoutMs) }
  }

  #act(action: Action): void {
    switch (action) {
      case 'connect':
        return this.#connect()
      case 'probe':
        this.#options.counters.probes++
        // Any byte that comes back is an answer.
        this.#connection?.rpc.request('echo', []).catch(() => undefined)
        return
      case 'disconnect':
        return this.#connection?.close({ kind: 'not-connected', message: 'the server does not answer' })
      default:
        return assertNever(action)
    }
  }

  #connect(): void {
    this.#listener.onConnecting()
    let receive: (notification: Notification) => void = () => {}
    const connection = openConnection(this.#options, {
      onConnect: () => {
        this.#heard(false)
        // The probe may be due before the attempt would have been given up.
        this.step()
        receive = this.#listener.onConnected(connection)
      },
      onHeard: isStillPartial => this.#heard(isStillPartial),
      onNotification: notification => receive(notification),
      onLost: problem => this.#lose(problem),
    })
    this.#connection = connection
  }

  // The timer stays as it is: when it fires early, it finds nothing due and is set anew.
  #heard(isStillPartial: boolean): void {
    this.#reconnect = heard(this.#reconnect, performance.now(), this.#options.patience, isStillPartial)
  }

  #lose(problem: OvsdbProblem): void {
    this.#options.counters.losses++
    this.#connection = undefined
    const nowMs = performance.now()
    this.#reconnect = lost(this.#reconnect, nowMs, this.#options.patience, Math.random())
    this.#listener.onLost(problem, Math.round(dueMs(this.#reconnect, this.#options.patience) - nowMs))
    this.step()
  }
}
