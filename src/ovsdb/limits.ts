/** What one client may be made to hold, whoever is at the other end. */
export interface Limits {
  /** Of one message that the server sends. V8 holds a string of 512 MiB at most. */
  readonly maxMessageBytes: number
  /** Brackets within brackets in one message. OVSDB's own messages have about ten. */
  readonly maxNesting: number
  /** Arrays and objects in one message, each of which takes some hundred bytes here. A port of Open vSwitch has about sixty. */
  readonly maxBrackets: number
  /** Calls that wait for their answers; one more is refused with `limit` and not sent. */
  readonly maxPendingCalls: number
  /** What a server that does not read leaves waiting here; a call that would pass it is refused with `limit`. */
  readonly maxUnsentBytes: number
  /** Rows of the replica, in all tables. */
  readonly maxRows: number
}

export const defaultLimits: Limits = {
  maxMessageBytes: 2 ** 28,
  maxNesting: 64,
  maxBrackets: 2 ** 22,
  maxPendingCalls: 2 ** 14,
  maxUnsentBytes: 2 ** 26,
  maxRows: 1_000_000,
}
