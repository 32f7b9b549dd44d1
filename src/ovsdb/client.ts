import type { OvsdbProblem } from './errors.js'
import type { Patience } from './reconnect.js'
import type { Change, Replica } from './replica.js'
import type { DatabaseSchema } from './schema.js'
import type { Committed, Transaction } from './transaction.js'

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
  /** Loaded and kept up to date, but another client holds the lock. */
  | { readonly state: 'locked-out'; readonly lock: string }
  /** Not connected; tries again after `retryInMs`. */
  | { readonly state: 'waiting'; readonly problem: OvsdbProblem; readonly retryInMs: number }
  | { readonly state: 'closed' }

/** What happens on the way, for a log. */
export type OvsdbEvent =
  | { readonly kind: 'status'; readonly status: Status }
  | { readonly kind: 'loaded'; readonly method: string; readonly rows: number; readonly changes: number }
  | { readonly kind: 'problem'; readonly problem: OvsdbProblem }
  /** A subscriber threw; the others were served. */
  | { readonly kind: 'listener-failed'; readonly error: unknown }

export interface OvsdbOptions<T, M extends Monitored<T>> {
  readonly endpoint: Endpoint
  /** The database's schema as this program knows it; its `name` is the database. */
  readonly schema: DatabaseSchema<T>
  readonly monitor: M
  /** A lock to hold (RFC 7047 §4.1.8); its name is an `<id>`: letters, digits and underscores. Every transaction then asserts it, so that it fails once another client holds it. */
  readonly lock?: string
  readonly onEvent?: (event: OvsdbEvent) => void
  /** How soon to connect again, and how long to bear silence. */
  readonly patience?: Partial<Patience>
}

/** A client of one database. Connects, and reconnects for ever, in the background until it is disposed of. */
export interface OvsdbClient<T, V = T> extends AsyncDisposable {
  readonly replica: Replica<V>
  readonly status: Status
  /** The schema that the server has; before the first connection the one this program was built with. */
  readonly schema: DatabaseSchema<T>
  /** Resolves once the status is `ready`. Rejects with the signal's reason, or when the client is closed. */
  ready(signal: AbortSignal): Promise<void>
  /**
   * Commits `transaction`, or changes nothing. What it changed is in the replica when this resolves.
   * Fails at once with `not-connected` or `lock-lost` unless the status is `ready`.
   */
  transact(transaction: Transaction<T>, options: { readonly signal: AbortSignal }): Promise<Committed>
  /**
   * The first answer of `probe` that is not undefined: asked now, and after each applied transaction.
   * Goes on through lost connections. Rejects with the signal's reason, with what `probe` throws, or when the client is closed.
   */
  waitFor<R>(probe: (replica: Replica<V>) => R | undefined, signal: AbortSignal): Promise<R>
  /** Tells of each applied transaction, after the whole of it stands in the replica. What stands there already is not told. */
  subscribe(listener: (changes: readonly Change<V>[]) => void): Disposable
  onStatus(listener: (status: Status) => void): Disposable
}
