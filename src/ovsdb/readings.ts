/** What a client has done so far, for a metrics page. All but the last three only grow. */
export interface Readings {
  /** Connections that came about. */
  readonly connects: number
  /** Connections, and attempts to connect, that ended. */
  readonly losses: number
  /** Dumps taken in: the first, and one after each loss or change of the schema. */
  readonly loads: number
  readonly probes: number
  readonly messagesReceived: number
  readonly messagesSent: number
  readonly bytesReceived: number
  readonly bytesSent: number
  readonly transactionsCommitted: number
  /** Refused by the server: nothing was changed. */
  readonly transactionsRefused: number
  /** Left without an answer. */
  readonly transactionsUnknown: number
  /** Rows that came, changed or went in the replica. */
  readonly changes: number
  /** Calls that wait for their answers now. */
  readonly pendingCalls: number
  /** Bytes that the server has not taken yet. */
  readonly unsentBytes: number
  /** Rows of the replica now. */
  readonly rows: number
}

/** The readings that are counted rather than looked up. */
export type Counters = {
  -readonly [K in Exclude<keyof Readings, 'pendingCalls' | 'unsentBytes' | 'rows'>]: number
}

export function newCounters(): Counters {
  return {
    connects: 0,
    losses: 0,
    loads: 0,
    probes: 0,
    messagesReceived: 0,
    messagesSent: 0,
    bytesReceived: 0,
    bytesSent: 0,
    transactionsCommitted: 0,
    transactionsRefused: 0,
    transactionsUnknown: 0,
    changes: 0,
  }
}
