import { assertNever } from '../lib/assert-never.js'
import type { Monitored, OvsdbClient, OvsdbEvent, OvsdbOptions, Replicated, Status } from './client.js'
import { type Connection, openConnection } from './connection.js'
import { notConnected, OvsdbError, type OvsdbProblem, problemOf } from './errors.js'
import { type Outcome, planOperations, readOutcome } from './operation.js'
import {
  type Action,
  defaultPatience,
  dueMs,
  heard,
  initialReconnect,
  lost,
  type Patience,
  type Reconnect,
  step,
  useful,
} from './reconnect.js'
import { type Change, LiveReplica, type Replica } from './replica.js'
import type { DatabaseSchema } from './schema.js'
import { type LockState, Session, type SessionEvent, type SessionWish } from './session.js'
import type { Committed, Transaction } from './transaction.js'

/** RFC 7047 §3.1, `<id>`. */
const lockName = /^[a-zA-Z_][a-zA-Z0-9_]*$/

/** Ample: an ovsdb-server on a machine with a load of 17 took 2 ms for each of 6,000. */
const workMsPerOperation = 5

/** Somebody who waits for the replica to come to a state. */
interface Waiter {
  /** Tries once more; true when it has settled. */
  readonly attempt: () => boolean
  readonly reject: (reason: unknown) => void
}

/** The client behind {@link OvsdbClient}: keeps one session going, and the replica equal to what it tells. */
export class LiveClient<T, M extends Monitored<T>> implements OvsdbClient<T, Replicated<T, M>> {
  readonly #options: OvsdbOptions<T, M>
  readonly #patience: Patience
  readonly #wish: SessionWish
  readonly #replica: LiveReplica<Replicated<T, M>>
  readonly #listeners = new Set<(changes: readonly Change<Replicated<T, M>>[]) => void>()
  readonly #statusListeners = new Set<(status: Status) => void>()
  readonly #waiters = new Set<Waiter>()
  #schema: DatabaseSchema<T>
  #status: Status = { state: 'connecting' }
  #reconnect: Reconnect
  #connection: Connection | undefined
  #timer: NodeJS.Timeout | undefined
  #isLoaded = false
  #lock: LockState = 'awaited'
  /** Operations of the transactions that are under way. */
  #underWay = 0

  constructor(options: OvsdbOptions<T, M>) {
    const { schema, monitor, lock } = options
    if (lock !== undefined && !lockName.test(lock)) throw new TypeError(`a lock's name is an <id>, not ${lock}`)
    const columns = new Map(
      Object.entries<readonly string[] | undefined>(monitor).map(([name, of]) => [name, of ?? []]),
    )
    this.#options = options
    this.#patience = { ...defaultPatience, ...options.patience }
    this.#schema = schema
    this.#wish = { database: schema.name, columns, lock }
    this.#replica = new LiveReplica(schema, columns)
    this.#reconnect = initialReconnect(performance.now(), this.#patience)
    this.#step()
  }

  get replica(): Replica<Replicated<T, M>> {
    return this.#replica
  }

  get status(): Status {
    return this.#status
  }

  get schema(): DatabaseSchema<T> {
    return this.#schema
  }

  async ready(signal: AbortSignal): Promise<void> {
    await this.waitFor(() => (this.#status.state === 'ready' ? true : undefined), signal)
  }

  waitFor<R>(probe: (replica: Replica<Replicated<T, M>>) => R | undefined, signal: AbortSignal): Promise<R> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason)
      const attempt = (): boolean => {
        try {
          const answer = probe(this.#replica)
          if (answer === undefined) return false
          resolve(answer)
        } catch (error) {
          reject(error)
        }
        leave()
        return true
      }
      const waiter: Waiter = { attempt, reject }
      const onAbort = () => {
        leave()
        reject(signal.reason)
      }
      const leave = () => {
        this.#waiters.delete(waiter)
        signal.removeEventListener('abort', onAbort)
      }
      if (attempt()) return
      if (this.#status.state === 'closed') return reject(closedError())
      this.#waiters.add(waiter)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  async transact(transaction: Transaction<T>, { signal }: { readonly signal: AbortSignal }): Promise<Committed> {
    if (signal.aborted) {
      const problem: OvsdbProblem = { kind: 'aborted-before-send', message: 'given up before the transaction was sent' }
      throw new OvsdbError(problem, { cause: signal.reason })
    }
    const connection = this.#usableConnection()
    const plan = planOperations(transaction.operations, this.#options.lock)
    this.#underWay += plan.wire.length
    const sent = connection.rpc.request('transact', [this.#wish.database, ...plan.wire]).finally(() => {
      this.#underWay -= plan.wire.length
    })
    return committed(readOutcome(plan, await this.#answer(sent, signal)))
  }

  /** The server has one thread, and answers no echo while it works on a transaction: a large one is given its time. */
  get #patienceNow(): Patience {
    const { probeIntervalMs } = this.#patience
    return { ...this.#patience, probeIntervalMs: probeIntervalMs + this.#underWay * workMsPerOperation }
  }

  subscribe(listener: (changes: readonly Change<Replicated<T, M>>[]) => void): Disposable {
    return addTo(this.#listeners, listener)
  }

  onStatus(listener: (status: Status) => void): Disposable {
    return addTo(this.#statusListeners, listener)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#status.state === 'closed') return
    this.#setStatus({ state: 'closed' })
    clearTimeout(this.#timer)
    this.#connection?.close({ kind: 'not-connected', message: 'the client is closed' })
    const waiters = [...this.#waiters]
    for (const { reject } of waiters) reject(closedError())
    this.#waiters.clear()
  }

  #usableConnection(): Connection {
    const { state } = this.#status
    if (state === 'locked-out') {
      const { lock } = this.#status
      throw new OvsdbError({ kind: 'lock-lost', message: `another client holds the lock ${lock}`, lock })
    }
    if (state !== 'ready' || this.#connection === undefined) throw notConnected(`the database is not at hand: ${state}`)
    return this.#connection
  }

  /** The server's answer to what has left; without one nobody knows the outcome. */
  #answer(sent: Promise<unknown>, signal: AbortSignal): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const giveUp = (message: string, cause: unknown) =>
        reject(new OvsdbError({ kind: 'outcome-unknown', message }, { cause }))
      const onAbort = () => giveUp('given up while the transaction was under way', signal.reason)
      signal.addEventListener('abort', onAbort, { once: true })
      const settle = () => signal.removeEventListener('abort', onAbort)
      sent.then(
        answer => {
          settle()
          resolve(answer)
        },
        (error: unknown) => {
          settle()
          const { kind, message } = problemOf(error)
          if (kind === 'rejected') reject(error)
          else giveUp(`the connection was lost while the transaction was under way: ${message}`, error)
        },
      )
    })
  }

  /** Does what is due, and sets the timer for what is due next. */
  #step(): void {
    const patience = this.#patienceNow
    const { next, action } = step(this.#reconnect, performance.now(), patience)
    this.#reconnect = next
    if (action !== undefined) this.#act(action)
    if (this.#status.state === 'closed') return
    clearTimeout(this.#timer)
    // One millisecond more: a timer may fire a little before its time.
    const delayMs = dueMs(this.#reconnect, patience) - performance.now() + 1
    this.#timer = setTimeout(() => this.#step(), Math.max(delayMs, 1))
  }

  #act(action: Action): void {
    switch (action) {
      case 'connect':
        return this.#connect()
      case 'probe':
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
    this.#setStatus({ state: 'connecting' })
    const session = new Session<T>(this.#wish, event => this.#take(event))
    const connection = openConnection(this.#options.endpoint, {
      onConnect: () => {
        this.#heard()
        // The probe may be due before the attempt would have been given up.
        this.#step()
        this.#setStatus({ state: 'loading' })
        session.open(connection.rpc).catch((error: unknown) => connection.close(problemOf(error)))
      },
      onHeard: () => this.#heard(),
      onNotification: notification => session.receive(notification),
      onLost: problem => this.#lose(problem),
    })
    this.#connection = connection
  }

  // The timer stays as it is: when it fires early, it finds nothing due and is set anew.
  #heard(): void {
    this.#reconnect = heard(this.#reconnect, performance.now())
  }

  #lose(problem: OvsdbProblem): void {
    this.#connection = undefined
    this.#isLoaded = false
    this.#lock = 'awaited'
    if (this.#status.state === 'closed') return
    const nowMs = performance.now()
    this.#reconnect = lost(this.#reconnect, nowMs, this.#patience, Math.random())
    this.#tell({ kind: 'problem', problem })
    this.#setStatus({
      state: 'waiting',
      problem,
      retryInMs: Math.round(dueMs(this.#reconnect, this.#patience) - nowMs),
    })
    this.#step()
  }

  #take(event: SessionEvent<T>): void {
    switch (event.kind) {
      case 'lock':
        this.#lock = event.state
        return this.#refreshStatus()
      case 'loaded': {
        const changes = this.#replica.load(event.dump)
        this.#schema = event.schema
        this.#isLoaded = true
        this.#reconnect = useful(this.#reconnect, this.#patience)
        this.#tell({ kind: 'loaded', method: event.method, rows: this.#replica.rowCount, changes: changes.length })
        this.#publish(changes)
        return this.#refreshStatus()
      }
      case 'updated':
        return this.#publish(this.#replica.apply(event.updates))
      default:
        return assertNever(event)
    }
  }

  #publish(changes: readonly Change<Replicated<T, M>>[]): void {
    if (changes.length === 0) return
    for (const listener of [...this.#listeners]) this.#guard(() => listener(changes))
    this.#askWaiters()
  }

  #askWaiters(): void {
    for (const waiter of [...this.#waiters]) waiter.attempt()
  }

  #refreshStatus(): void {
    if (!this.#isLoaded || this.#status.state === 'closed') return
    const { lock } = this.#options
    this.#setStatus(lock !== undefined && this.#lock !== 'held' ? { state: 'locked-out', lock } : { state: 'ready' })
  }

  #setStatus(status: Status): void {
    if (this.#status.state === status.state && status.state !== 'waiting') return
    this.#status = status
    this.#tell({ kind: 'status', status })
    for (const listener of [...this.#statusListeners]) this.#guard(() => listener(status))
    this.#askWaiters()
  }

  #tell(event: OvsdbEvent): void {
    this.#options.onEvent?.(event)
  }

  /** A listener's failure is its own: neither the session nor the other listeners suffer. */
  #guard(call: () => void): void {
    try {
      call()
    } catch (error) {
      this.#tell({ kind: 'listener-failed', error })
    }
  }
}

function committed({ inserted, selected }: Outcome): Committed {
  return {
    uuid(row) {
      const uuid = inserted.get(row)
      if (uuid === undefined) throw new TypeError('the row was inserted by another transaction')
      return uuid
    },
    row({ operationIndex, decode }) {
      const row = selected.get(operationIndex)
      return row === undefined ? undefined : decode(row)
    },
  }
}

function closedError(): OvsdbError {
  return notConnected('the client is closed')
}

function addTo<L>(listeners: Set<L>, listener: L): Disposable {
  listeners.add(listener)
  return { [Symbol.dispose]: () => void listeners.delete(listener) }
}
