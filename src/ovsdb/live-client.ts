import { raceAbort } from '../lib/abort.js'
import { assertNever } from '../lib/assert-never.js'
import { encodeConditions } from './checking.js'
import type { Monitored, OvsdbClient, OvsdbEvent, OvsdbOptions, Replicated, Status } from './client.js'
import type { Connection } from './connection.js'
import { notConnected, OvsdbError, type OvsdbProblem, problemOf } from './errors.js'
import type { Json } from './json.js'
import { defaultLimits } from './limits.js'
import { Line } from './line.js'
import { harmless, Listeners } from './listeners.js'
import { isRefused, noTransaction } from './monitor.js'
import { planOperations } from './operation.js'
import { refuseOrphans } from './orphans.js'
import { newCounters, type Readings } from './readings.js'
import { defaultPatience } from './reconnect.js'
import { type Change, LiveReplica, type Replica } from './replica.js'
import type { Notification } from './rpc.js'
import type { DatabaseSchema } from './schema.js'
import { type Accounts, sendTransaction } from './send.js'
import { type LockState, Session, type SessionEvent, type SessionWish } from './session.js'
import { traceOfEnvironment } from './trace.js'
import type { Committed, Condition, Transaction } from './transaction.js'
import { Undecided } from './undecided.js'
import { Waiters } from './waiters.js'

/** RFC 7047 §3.1, `<id>`. */
const lockName = /^[a-zA-Z_][a-zA-Z0-9_]*$/

/** Ample: an ovsdb-server on a machine with a load of 17 took 2 ms for each of 6,000. */
const workMsPerOperation = 5

/** The client behind {@link OvsdbClient}: keeps one session going, and the replica equal to what it tells. */
export class LiveClient<T, M extends Monitored<T>> implements OvsdbClient<T, Replicated<T, M>> {
  readonly #options: OvsdbOptions<T, M>
  readonly #wish: SessionWish
  readonly #replica: LiveReplica<Replicated<T, M>>
  readonly #listeners: Listeners<readonly Change<Replicated<T, M>>[]>
  readonly #statusListeners: Listeners<Status>
  readonly #tell: (event: OvsdbEvent) => void
  readonly #waiters = new Waiters()
  readonly #undecided = new Undecided()
  readonly #counters = newCounters()
  readonly #accounts: Accounts
  readonly #line: Line
  /** Which rows of a table are followed; all where nothing is said. */
  readonly #where = new Map<string, readonly Json[]>()
  /** The last transaction that the replica has, where the server keeps a history. */
  #lastId = noTransaction
  #schema: DatabaseSchema<T>
  #status: Status = { state: 'connecting' }
  #session: Session<T> | undefined
  #isLoaded = false
  #lock: LockState = 'awaited'
  #wantsLock = true
  #settling = 0
  /** Changes of conditions of which the server has not said whether they stand. */
  #narrowing = 0

  constructor(options: OvsdbOptions<T, M>) {
    const { schema, monitor, required = {}, lock } = options
    if (lock !== undefined && !lockName.test(lock)) throw new TypeError(`a lock's name is an <id>, not ${lock}`)
    const columns = columnsOf(monitor)
    this.#options = options
    const limits = { ...defaultLimits, ...options.limits }
    this.#schema = schema
    this.#wish = { schema, columns, required: columnsOf(required), lock }
    this.#replica = new LiveReplica(schema, columns, limits.maxRows)
    this.#tell = harmless(options.onEvent ?? (() => undefined))
    // A listener's failure is its own: neither the session nor the other listeners suffer.
    const onFailure = (error: unknown) => this.#tell({ kind: 'listener-failed', error })
    this.#listeners = new Listeners(onFailure)
    this.#statusListeners = new Listeners(onFailure)
    this.#accounts = {
      undecided: this.#undecided,
      counters: this.#counters,
      onDecided: () => {
        if (this.#settling > 0) this.#waiters.askAll()
      },
    }
    const trace = options.trace ?? traceOfEnvironment()
    this.#line = new Line(
      {
        endpoint: options.endpoint,
        patience: { ...defaultPatience, ...options.patience },
        limits,
        counters: this.#counters,
        trace: trace && harmless(trace),
        // The server has one thread, and answers no echo while it works on a transaction: a large one is given its time.
        workMs: () => this.#undecided.operationCount * workMsPerOperation,
      },
      {
        onConnecting: () => this.#setStatus({ state: 'connecting' }),
        onConnected: connection => this.#openSession(connection),
        onLost: (problem, retryInMs) => this.#lose(problem, retryInMs),
      },
    )
    this.#line.step()
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

  get readings(): Readings {
    return {
      ...this.#counters,
      pendingCalls: this.#line.connection?.rpc.pendingCount ?? 0,
      unsentBytes: this.#line.connection?.unsentBytes ?? 0,
      rows: this.#replica.rowCount,
    }
  }

  async ready(signal: AbortSignal): Promise<void> {
    await this.waitFor(() => (this.#status.state === 'ready' ? true : undefined), signal)
  }

  waitFor<R>(probe: (replica: Replica<Replicated<T, M>>) => R | undefined, signal: AbortSignal): Promise<R> {
    return this.#waiters.waitFor(() => probe(this.#replica), signal)
  }

  async transact(transaction: Transaction<T>, { signal }: { readonly signal: AbortSignal }): Promise<Committed> {
    if (signal.aborted) {
      const problem: OvsdbProblem = { kind: 'aborted-before-send', message: 'given up before the transaction was sent' }
      throw new OvsdbError(problem, { cause: signal.reason })
    }
    const { rpc } = this.#usableConnection()
    refuseOrphans(this.#schema, transaction.operations)
    const plan = planOperations(transaction.operations, this.#options.lock)
    return sendTransaction(rpc, this.#wish.schema.name, plan, signal, this.#accounts)
  }

  async settled(signal: AbortSignal): Promise<void> {
    if (this.#options.lock === undefined) throw new TypeError('without a lock nobody can tell')
    const isDecided = this.#undecided.watch()
    this.#settling++
    try {
      await this.waitFor(() => (isDecided() ? true : undefined), signal)
    } finally {
      this.#settling--
    }
  }

  async narrow<K extends keyof M & keyof T & string>(
    table: K,
    conditions: readonly Condition<T[K]>[] | 'all',
    { signal }: { readonly signal: AbortSignal },
  ): Promise<void> {
    const some = conditions === 'all' ? [true] : encodeConditions(this.#schema, table, conditions)
    // To the server an empty list is no condition at all.
    const where = some.length > 0 ? some : [false]
    const before = this.#where.get(table) ?? [true]
    this.#where.set(table, where)
    for (;;) {
      const loaded = this.waitFor(() => (this.#isLoaded ? this.#session : undefined), signal)
      const session = await loaded.catch((error: unknown) => {
        this.#forget(table, where, before)
        throw error
      })
      if (await raceAbort(this.#narrowOn(session, table, where, before), signal)) return
    }
  }

  /** False when the session, or its monitor, ended meanwhile: the next one starts from what is wanted. */
  async #narrowOn(
    session: Session<T>,
    table: string,
    where: readonly Json[],
    before: readonly Json[],
  ): Promise<boolean> {
    this.#narrowing++
    this.#followTo(noTransaction)
    try {
      await session.narrow(new Map([[table, where]]))
      return true
    } catch (error) {
      if (isRefused(error, 'unknown monitor')) return false
      if (!isRefused(error) && this.#session !== session) return false
      // The next session is not to be refused for it too.
      this.#forget(table, where, before)
      throw error
    } finally {
      this.#narrowing--
    }
  }

  /** Puts former conditions back, unless newer ones have taken the place of these. */
  #forget(table: string, where: readonly Json[], before: readonly Json[]): void {
    if (this.#where.get(table) === where) this.#where.set(table, before)
  }

  async stealLock(): Promise<void> {
    this.#wantsLock = true
    await this.#session?.requestLock('steal')
  }

  async releaseLock(): Promise<void> {
    this.#wantsLock = false
    await this.#session?.releaseLock()
  }

  async requestLock(): Promise<void> {
    this.#wantsLock = true
    await this.#session?.requestLock('lock')
  }

  subscribe(listener: (changes: readonly Change<Replicated<T, M>>[]) => void): Disposable {
    return this.#listeners.add(listener)
  }

  onStatus(listener: (status: Status) => void): Disposable {
    return this.#statusListeners.add(listener)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#status.state === 'closed') return
    this.#setStatus({ state: 'closed' })
    this.#line.close({ kind: 'not-connected', message: 'the client is closed' })
    this.#waiters.close(notConnected('the client is closed'))
  }

  #usableConnection(): Connection {
    const { state } = this.#status
    if (state === 'locked-out') {
      const { lock } = this.#status
      throw new OvsdbError({ kind: 'lock-lost', message: `the lock ${lock} is not held`, lock })
    }
    const { connection } = this.#line
    if (state !== 'ready' || connection === undefined) throw notConnected(`the database is not at hand: ${state}`)
    return connection
  }

  #openSession(connection: Connection): (notification: Notification) => void {
    this.#setStatus({ state: 'loading' })
    const fail = (error: unknown) => connection.close(problemOf(error))
    const start = { where: new Map(this.#where), since: this.#lastId }
    const session = new Session<T>(connection.rpc, this.#wish, start, event => this.#take(event), fail)
    this.#session = session
    session.open(this.#wantsLock).catch(fail)
    return notification => session.receive(notification)
  }

  #lose(problem: OvsdbProblem, retryInMs: number): void {
    this.#session = undefined
    this.#isLoaded = false
    this.#lock = 'awaited'
    // What was told wrongly once would be told so again.
    if (problem.kind !== 'not-connected') this.#lastId = noTransaction
    if (this.#status.state === 'closed') return
    this.#tell({ kind: 'problem', problem })
    this.#setStatus({ state: 'waiting', problem, retryInMs })
  }

  #take(event: SessionEvent<T>): void {
    switch (event.kind) {
      case 'lock':
        this.#lock = event.state
        return this.#refreshStatus()
      case 'loaded':
        return this.#load(event)
      case 'updated':
        this.#followTo(event.lastId)
        return this.#publish(this.#replica.apply(event.updates))
      case 'unloaded':
        this.#isLoaded = false
        this.#followTo(noTransaction)
        this.#line.loading()
        return this.#setStatus({ state: 'loading' })
      case 'absent':
        this.#line.useful()
        return this.#setStatus({ state: 'absent', database: this.#wish.schema.name })
      default:
        return assertNever(event)
    }
  }

  #load({ schema, start, lacking }: Extract<SessionEvent<T>, { kind: 'loaded' }>): void {
    const { method, isWhole, updates, lastId } = start
    const changes = isWhole ? this.#replica.load(updates) : this.#replica.apply(updates)
    this.#schema = schema
    this.#followTo(lastId)
    this.#isLoaded = true
    this.#line.useful()
    this.#counters.loads++
    if (lacking.length > 0) this.#tell({ kind: 'lacking', columns: lacking })
    this.#tell({ kind: 'loaded', method, isWhole, rows: this.#replica.rowCount, changes: changes.length })
    this.#publish(changes)
    this.#refreshStatus()
  }

  /** The replica is at this transaction; which does not say where it is while nobody knows which rows the server tells of. */
  #followTo(lastId: string): void {
    this.#lastId = this.#narrowing === 0 ? lastId : noTransaction
  }

  #publish(changes: readonly Change<Replicated<T, M>>[]): void {
    if (changes.length === 0) return
    this.#counters.changes += changes.length
    this.#listeners.tell(changes)
    this.#waiters.askAll()
  }

  #refreshStatus(): void {
    if (!this.#isLoaded || this.#status.state === 'closed') return
    const { lock } = this.#options
    if (lock !== undefined && this.#lock !== 'held') return this.#setStatus({ state: 'locked-out', lock })
    // The server gives the lock to this session only once the one before it is over, with all that it had sent. Without one
    // nobody can ask.
    this.#undecided.decideStrays()
    this.#setStatus({ state: 'ready' })
  }

  #setStatus(status: Status): void {
    if (this.#status.state === status.state && status.state !== 'waiting') return
    this.#status = status
    this.#tell({ kind: 'status', status })
    this.#statusListeners.tell(status)
    this.#waiters.askAll()
  }
}

function columnsOf(tables: object): ReadonlyMap<string, readonly string[]> {
  return new Map(Object.entries<readonly string[] | undefined>({ ...tables }).map(([name, of]) => [name, of ?? []]))
}
