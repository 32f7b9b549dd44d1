import { protocolError } from './errors.js'
import { isRecord, type Json } from './json.js'
import {
  changeConditions,
  isRefused,
  type MonitorStart,
  noTransaction,
  parseUpdate,
  type RowUpdate,
  startMonitor,
} from './monitor.js'
import type { Notification, Rpc } from './rpc.js'
import { type DatabaseSchema, parseSchema } from './schema.js'
import { compareSchemas } from './schema-check.js'
import { isServed, type ServedDatabases, servedAfter, serverColumns } from './server-database.js'

/** What sessions are opened for. */
export interface SessionWish {
  /** As the program knows it. */
  readonly schema: DatabaseSchema
  readonly columns: ReadonlyMap<string, readonly string[]>
  readonly required: ReadonlyMap<string, readonly string[]>
  readonly lock: string | undefined
}

/** What a session starts from: the end of the one before it. */
export interface SessionStart {
  readonly where: ReadonlyMap<string, readonly Json[]>
  /** The last transaction that the replica has, where the server keeps a history. */
  readonly since: string
}

/** The state of a session's lock (RFC 7047 §4.1.8 to §4.1.10). */
export type LockState = 'not-wanted' | 'held' | 'awaited'

/** What a session tells, in the order in which the server told it. */
export type SessionEvent<T> =
  | {
      readonly kind: 'loaded'
      readonly schema: DatabaseSchema<T>
      readonly start: MonitorStart
      readonly lacking: readonly string[]
    }
  | { readonly kind: 'updated'; readonly updates: readonly RowUpdate[]; readonly lastId: string }
  /** No more updates: the schema changes, or the database goes. `loaded` or `absent` follows. */
  | { readonly kind: 'unloaded' }
  /** The server does not have the database. `loaded` follows when it has. */
  | { readonly kind: 'absent' }
  | { readonly kind: 'lock'; readonly state: LockState }

const replicaId = 'replica'
const serverId = 'server'

/** One connection's use of one database: lock, then schema, then monitor, then updates for as long as it lasts. */
export class Session<T> {
  readonly #rpc: Rpc
  readonly #wish: SessionWish
  readonly #tell: (event: SessionEvent<T>) => void
  readonly #fail: (error: unknown) => void
  /** What the next monitor starts from. */
  #start: SessionStart
  #stage: 'opening' | 'loading' | 'loaded' | 'absent' = 'opening'
  /** Undefined while the server tells nothing of its databases. */
  #served: ServedDatabases | undefined
  /** The database was told of since the last look for it. */
  #appeared = false
  #isLockAsked = false

  /** `fail` is told what ends the session after it was opened. */
  constructor(
    rpc: Rpc,
    wish: SessionWish,
    start: SessionStart,
    tell: (event: SessionEvent<T>) => void,
    fail: (error: unknown) => void,
  ) {
    this.#rpc = rpc
    this.#wish = wish
    this.#start = start
    this.#tell = tell
    this.#fail = fail
  }

  /**
   * Resolves once the database is loaded, or known to be absent. Rejects with what the server answered, or when the
   * connection is lost.
   */
  async open(withLock: boolean): Promise<void> {
    await this.#followServer()
    // Before the dump: what is read once the lock is held then shows all that the former holder did.
    if (this.#wish.lock === undefined || !withLock) this.#tell({ kind: 'lock', state: 'not-wanted' })
    // Unless somebody has asked in the meantime.
    else if (!this.#isLockAsked) await this.requestLock('lock')
    await this.#load()
  }

  /** RFC 7047 §4.1.8. Stealing takes the lock from whoever holds it. */
  async requestLock(method: 'lock' | 'steal'): Promise<void> {
    const { lock } = this.#wish
    if (lock === undefined) return
    // The protocol takes a second request only after an unlock.
    if (this.#isLockAsked) await this.releaseLock()
    this.#isLockAsked = true
    await this.#rpc.request(method, [lock], answer => this.#tell({ kind: 'lock', state: parseLocked(answer) }))
  }

  async releaseLock(): Promise<void> {
    const { lock } = this.#wish
    if (lock === undefined || !this.#isLockAsked) return
    this.#isLockAsked = false
    await this.#rpc.request('unlock', [lock], () => this.#tell({ kind: 'lock', state: 'not-wanted' }))
  }

  /** Changes which rows of the tables in `where` are followed. What this adds and removes is told before it resolves. */
  async narrow(where: ReadonlyMap<string, readonly Json[]>): Promise<void> {
    if (this.#stage === 'loaded') await changeConditions(this.#rpc, replicaId, where)
    this.#start = { where: new Map([...this.#start.where, ...where]), since: noTransaction }
  }

  /** Takes in a notification. Throws `protocol` for one that cannot be understood. */
  receive({ method, params }: Notification): void {
    if (method === 'locked' || method === 'stolen') return this.#receiveLock(method, params)
    if (method === 'monitor_canceled') return this.#receiveEnd(params)
    const update = parseUpdate(method, params)
    if (update?.id === serverId) this.#receiveServed(update.updates)
    else if (update?.id === replicaId && this.#stage === 'loaded') this.#tell({ ...update, kind: 'updated' })
  }

  /**
   * Asks to be told of databases that come, go and change (ovsdb-server(7), "Database Change Awareness"), for which a
   * server otherwise ends the connection. An older one does so, and that is handled too.
   */
  async #followServer(): Promise<void> {
    try {
      await this.#rpc.request('set_db_change_aware', [true])
      const wish = { database: '_Server', id: serverId, columns: serverColumns, where: new Map(), since: noTransaction }
      await startMonitor(this.#rpc, wish, ({ updates }) => {
        this.#served = servedAfter(new Map(), updates)
      })
    } catch (error) {
      if (!isRefused(error)) throw error
    }
  }

  async #load(): Promise<void> {
    this.#stage = 'loading'
    do {
      this.#appeared = false
      if (await this.#tryLoad()) return
      // It may have come back behind the answer that it is not there.
    } while (this.#appeared)
    this.#stage = 'absent'
    this.#tell({ kind: 'absent' })
  }

  async #tryLoad(): Promise<boolean> {
    const { schema: ours, columns: wanted, required } = this.#wish
    const database = ours.name
    if (this.#served !== undefined && !isServed(this.#served, database)) return false
    try {
      const schema = parseSchema<T>(await this.#rpc.request('get_schema', [database]))
      const { columns, lacking } = compareSchemas(ours, schema, wanted, required)
      const wish = { database, id: replicaId, columns, ...this.#start }
      await startMonitor(this.#rpc, wish, start => {
        this.#stage = 'loaded'
        this.#tell({ kind: 'loaded', schema, start, lacking })
      })
      return true
    } catch (error) {
      if (this.#served !== undefined && isRefused(error, 'unknown database')) return false
      throw error
    }
  }

  #receiveServed(updates: readonly RowUpdate[]): void {
    if (this.#served === undefined) return
    this.#served = servedAfter(this.#served, updates)
    this.#appeared = isServed(this.#served, this.#wish.schema.name)
    if (this.#appeared && this.#stage === 'absent') this.#loadAgain()
  }

  /** ovsdb-server(7), "Monitor Cancellation": the schema was converted, or the database is gone. */
  #receiveEnd([id]: readonly unknown[]): void {
    if (id !== replicaId || this.#stage !== 'loaded') return
    if (this.#served === undefined) throw protocolError('the server has cancelled the monitor')
    this.#start = { ...this.#start, since: noTransaction }
    this.#loadAgain()
  }

  #loadAgain(): void {
    this.#tell({ kind: 'unloaded' })
    this.#load().catch(this.#fail)
  }

  #receiveLock(method: 'locked' | 'stolen', [lock]: readonly unknown[]): void {
    if (lock === this.#wish.lock && this.#isLockAsked)
      this.#tell({ kind: 'lock', state: method === 'locked' ? 'held' : 'awaited' })
  }
}

function parseLocked(answer: unknown): LockState {
  return isRecord(answer) && answer['locked'] === true ? 'held' : 'awaited'
}
