import { protocolError } from './errors.js'
import { isRecord } from './json.js'
import { type MonitorMethod, parseUpdate, type RowUpdate, startMonitor } from './monitor.js'
import type { Notification, Rpc } from './rpc.js'
import { type DatabaseSchema, parseSchema } from './schema.js'

/** What one connection is opened for. */
export interface SessionWish {
  readonly database: string
  readonly columns: ReadonlyMap<string, readonly string[]>
  readonly lock: string | undefined
}

/** The state of a session's lock (RFC 7047 §4.1.8 to §4.1.10). */
export type LockState = 'not-wanted' | 'held' | 'awaited'

/** What a session tells, in the order in which the server told it. */
export type SessionEvent<T> =
  | {
      readonly kind: 'loaded'
      readonly schema: DatabaseSchema<T>
      readonly method: MonitorMethod
      readonly dump: readonly RowUpdate[]
    }
  | { readonly kind: 'updated'; readonly updates: readonly RowUpdate[] }
  | { readonly kind: 'lock'; readonly state: LockState }

const monitorId = 'replica'

/**
 * One connection's use of one database: schema, then lock, then monitor, then updates for as long as it lasts.
 * What the server sends right behind an answer is told after it.
 */
export class Session<T> {
  readonly #wish: SessionWish
  readonly #tell: (event: SessionEvent<T>) => void
  #early: Notification[] | undefined = []

  constructor(wish: SessionWish, tell: (event: SessionEvent<T>) => void) {
    this.#wish = wish
    this.#tell = tell
  }

  /** Resolves once the database is loaded. Rejects with what the server answered, or when `rpc` is lost. */
  async open(rpc: Rpc): Promise<void> {
    const { database, columns, lock } = this.#wish
    const schema = parseSchema<T>(await rpc.request('get_schema', [database]))
    // Before the dump: what is read once the lock is held then shows all that the former holder did.
    if (lock !== undefined) this.#tell({ kind: 'lock', state: parseLocked(await rpc.request('lock', [lock])) })
    else this.#tell({ kind: 'lock', state: 'not-wanted' })
    const { method, dump } = await startMonitor(rpc, database, monitorId, knownColumns(schema, columns))
    this.#tell({ kind: 'loaded', schema, method, dump })
    const early = this.#early ?? []
    this.#early = undefined
    for (const notification of early) this.receive(notification)
  }

  /** Takes in a notification. Throws `protocol` for one that cannot be understood, or that ends the monitor. */
  receive(notification: Notification): void {
    const { method, params } = notification
    if (this.#early !== undefined) {
      this.#early.push(notification)
      return
    }
    if (method === 'locked' || method === 'stolen') return this.#receiveLock(method, params)
    if (method === 'monitor_canceled') throw protocolError('the server has cancelled the monitor')
    const updates = parseUpdate(monitorId, method, params)
    if (updates !== undefined) this.#tell({ kind: 'updated', updates })
  }

  #receiveLock(method: 'locked' | 'stolen', params: readonly unknown[]): void {
    if (params[0] === this.#wish.lock) this.#tell({ kind: 'lock', state: method === 'locked' ? 'held' : 'awaited' })
  }
}

function parseLocked(answer: unknown): LockState {
  return isRecord(answer) && answer['locked'] === true ? 'held' : 'awaited'
}

/** An older server may lack columns that we know: they are not asked for, and read as their defaults. */
function knownColumns(
  { tables }: DatabaseSchema,
  wanted: ReadonlyMap<string, readonly string[]>,
): ReadonlyMap<string, readonly string[]> {
  const known = new Map<string, readonly string[]>()
  for (const [table, columns] of wanted) {
    const schema = tables[table]
    if (schema !== undefined)
      known.set(
        table,
        columns.filter(column => schema.columns[column] !== undefined),
      )
  }
  return known
}
