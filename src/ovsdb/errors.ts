import { messageOf } from '../lib/thrown.js'
import { shorten } from './json.js'
import type { Limits } from './limits.js'

/** What can go wrong between us and an OVSDB server. */
export type OvsdbProblem =
  /** No usable connection; nothing was sent. */
  | { readonly kind: 'not-connected'; readonly message: string }
  /** The transaction left, and no answer came: it may or may not have been committed. */
  | { readonly kind: 'outcome-unknown'; readonly message: string }
  /** The caller gave up before anything was sent. */
  | { readonly kind: 'aborted-before-send'; readonly message: string }
  /** A `wait` found other rows than it was told to expect; nothing was changed. */
  | { readonly kind: 'precondition-failed'; readonly message: string; readonly operationIndex: number }
  /**
   * The server refused and changed nothing. `error` is a name of RFC 7047 §4.1.3 and §5.2 such as `constraint violation`.
   * `operationIndex` is undefined when the transaction failed as a whole, at commit.
   */
  | {
      readonly kind: 'rejected'
      readonly message: string
      readonly error: string
      readonly details: string | undefined
      readonly operationIndex: number | undefined
    }
  /** An update, mutate or delete named a row that is gone; nothing was changed. */
  | {
      readonly kind: 'row-vanished'
      readonly message: string
      readonly table: string
      readonly uuid: string
      readonly operationIndex: number
    }
  /** Somebody else holds the lock; nothing was changed. */
  | { readonly kind: 'lock-lost'; readonly message: string; readonly lock: string }
  /** A value does not fit its column; nothing was sent. */
  | {
      readonly kind: 'invalid-value'
      readonly message: string
      readonly table: string
      readonly column: string
      readonly reason: string
    }
  /** The server said something that the protocol does not allow. */
  | { readonly kind: 'protocol'; readonly message: string }
  /** A bound of {@link Limits} was reached. From a call: nothing was sent. From the server: the connection was given up. */
  | { readonly kind: 'limit'; readonly message: string; readonly limit: keyof Limits }
  /** The server's schema lacks columns that this program cannot do without, or has them of another type. */
  | { readonly kind: 'schema-mismatch'; readonly message: string; readonly columns: readonly string[] }

/** The one error of this client. */
export class OvsdbError extends Error {
  override readonly name = 'OvsdbError'
  readonly problem: OvsdbProblem

  constructor(problem: OvsdbProblem, options?: { readonly cause?: unknown }) {
    super(problem.message, options)
    this.problem = problem
  }
}

/** Of what a server says at whatever length. */
const maxCharacters = 1000

/** What an `<error>` of a server's says (RFC 7047 §4.1.3). */
export function readError(json: Readonly<Record<string, unknown>>): {
  readonly error: string
  readonly details: string | undefined
  readonly message: string
} {
  const error = shorten(String(json['error']), maxCharacters)
  const details = typeof json['details'] === 'string' ? shorten(json['details'], maxCharacters) : undefined
  return { error, details, message: details === undefined ? error : `${error}: ${details}` }
}

export function protocolError(message: string, options?: { readonly cause?: unknown }): OvsdbError {
  return new OvsdbError({ kind: 'protocol', message: shorten(message, maxCharacters) }, options)
}

export function limitReached(limit: keyof Limits, message: string): OvsdbError {
  return new OvsdbError({ kind: 'limit', message, limit })
}

export function notConnected(message: string, options?: { readonly cause?: unknown }): OvsdbError {
  return new OvsdbError({ kind: 'not-connected', message }, options)
}

/** The problem behind anything thrown on the way to the server. */
export function problemOf(error: unknown): OvsdbProblem {
  if (error instanceof OvsdbError) return error.problem
  return { kind: 'not-connected', message: messageOf(error) }
}
