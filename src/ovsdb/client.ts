import type { OvsdbProblem } from './errors.js'
import type { Limits } from './limits.js'
import type { Readings } from './readings.js'
import type { Patience } from './reconnect.js'
import type { Change, Replica } from './replica.js'
import type { DatabaseSchema } from './schema.js'
import type { Trace } from './trace.js'
import type { Committed, Condition, Transaction } from './transaction.js'

/** Where an OVSDB server listens (ovsdb(7), "Connection Methods"). */
export type Endpoint =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }

/** Which columns of which tables are to be replicated. */
export type Monitored<T> = { readonly [K in keyof T]?: readonly (Exclude<keyof T[K], '_uuid'> & string)[] }

/** The rows that a replica of the columns `M` holds: what is not monitored cannot be read. */
export type Replicated<T, M extends Monitored<T>> = {
  readonly [K in keyof M & keyof T]: M[K] extends readonly (infer C)[] ? Pick<T[K], (C | '_uuid') & keyof T[K]> : never
}

export type Status =
  | { readonly state: 'connecting' }
  /** Connected; schema, lock and contents are being asked for. */
  | { readonly state: 'loading' }
  /** Loaded, and the lock (if one was asked for) is held. Only now transactions are taken. */
  | { readonly state: 'ready' }
  /** Loaded and kept up to date, but without the lock: another client holds it, or this one released it. */
  | { readonly state: 'locked-out'; readonly lock: string }
  /** Connected to a server that does not have the database; it tells when it has. */
  | { readonly state: 'absent'; readonly database: string }
  /** Not connected; tries again after `retryInMs`. */
  | { readonly state: 'waiting'; readonly problem: OvsdbProblem; readonly retryInMs: number }
  | { readonly state: 'closed' }

const states = {
  connecting: true,
  loading: true,
  ready: true,
  'locked-out': true,
  absent: true,
  waiting: true,
  closed: true,
} satisfies Record<Status['state'], true>

/** All states that a status can be in. */
export const ovsdbStates: readonly string[] = Object.keys(states)

/** What happens on the way, for a log. */
export type OvsdbEvent =
  | { readonly kind: 'status'; readonly status: Status }
  /** `isWhole`: by a dump of all there is; otherwise by what happened since the connection was lost. */
  | {
      readonly kind: 'loaded'
      readonly method: string
      readonly isWhole: boolean
      readonly rows: number
      readonly changes: number
    }
  /** An older server has no such columns, named as `Table.column`: they read as their defaults. */
  | { readonly kind: 'lacking'; readonly columns: readonly string[] }
  | { readonly kind: 'problem'; readonly problem: OvsdbProblem }
  /** A subscriber threw; the others were served. */
  | { readonly kind: 'listener-failed'; readonly error: unknown }

export interface OvsdbOptions<T, M extends Monitored<T>> {
  readonly endpoint: Endpoint
  /** The database's schema as this program knows it; its `name` is the database. */
  readonly schema: DatabaseSchema<T>
  readonly monitor: M
  /** Columns that this program cannot do without: a server that lacks one is refused with `schema-mismatch`. */
  readonly required?: Monitored<T>
  /**
   * A lock to hold (RFC 7047 §4.1.8); its name is an `<id>`: letters, digits and underscores. Every transaction then
   * asserts it, so that it fails once another client holds it.
   */
  readonly lock?: string
  /** What this or `trace` throws becomes a warning of the process, and nothing else. */
  readonly onEvent?: (event: OvsdbEvent) => void
  /** How soon to connect again, and how long to bear silence. */
  readonly patience?: Partial<Patience>
  readonly limits?: Partial<Limits>
  /** Takes each message, shortened to a line. Without it `OVSDB_TRACE=1` in the environment has them on standard error. */
  readonly trace?: Trace
}

/** A client of one database. Connects, and reconnects for ever, in the background until it is disposed of. */
export interface OvsdbClient<T, V = T> extends AsyncDisposable {
  readonly replica: Replica<V>
  readonly status: Status
  /** The schema that the server has; before the first connection the one this program was built with. */
  readonly schema: DatabaseSchema<T>
  readonly readings: Readings
  /** Resolves once the status is `ready`. Rejects with the signal's reason, or when the client is closed. */
  ready(signal: AbortSignal): Promise<void>
  /**
   * Commits `transaction`, or changes nothing. What it changed is in the replica when this resolves.
   * Fails at once with `not-connected` or `lock-lost` unless the status is `ready`, and with `invalid-value` when a row that it
   * inserts would vanish at the commit.
   */
  transact(transaction: Transaction<T>, options: { readonly signal: AbortSignal }): Promise<Committed>
  /**
   * Resolves once each transaction that has left before is either in the replica or will never be committed, whether or not
   * its answer was lost: an `outcome-unknown` can then be looked up. Only for a client with a lock, by which the server keeps
   * the former connection's transactions and the new one's apart; without one it throws.
   */
  settled(signal: AbortSignal): Promise<void>
  /**
   * Replicates only the rows of `table` that meet any of `conditions`; rows that no longer do are told as deleted. Resolves once
   * the replica shows it. Holds for later connections too. The former conditions stay when the server refuses (`rejected`), as one
   * does that knows plain `monitor` alone, and when `signal` aborts before there is a connection.
   */
  narrow<K extends keyof V & keyof T & string>(
    table: K,
    conditions: readonly Condition<T[K]>[] | 'all',
    options: { readonly signal: AbortSignal },
  ): Promise<void>
  /** Takes the lock from whoever holds it, who is told (RFC 7047 §4.1.8). Without a connection the next one only asks for it. */
  stealLock(): Promise<void>
  /** Lets the next client have the lock, and does not ask for it again. */
  releaseLock(): Promise<void>
  /** Asks for the lock again, after {@link releaseLock}. */
  requestLock(): Promise<void>
  /**
   * The first answer of `probe` that is not undefined: asked now, and after each applied transaction.
   * Goes on through lost connections. Rejects with the signal's reason, with what `probe` throws, or when the client is closed.
   */
  waitFor<R>(probe: (replica: Replica<V>) => R | undefined, signal: AbortSignal): Promise<R>
  /** Tells of each applied transaction, after the whole of it stands in the replica. What stands there already is not told. */
  subscribe(listener: (changes: readonly Change<V>[]) => void): Disposable
  onStatus(listener: (status: Status) => void): Disposable
}
