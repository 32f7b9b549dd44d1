import { Gauge, type Registry } from 'prom-client'
import { type Family, readingsRegistry } from './readings.js'

/** The connection to the database. */
export interface OvsdbReading {
  /** All states that it can be in, and the one it is in. */
  readonly states: readonly string[]
  readonly state: string
  readonly readings: OvsdbReadings
}

/** What the client of the database has counted since it was opened, and the last three as they are now. */
export interface OvsdbReadings {
  readonly connects: number
  readonly losses: number
  readonly loads: number
  readonly probes: number
  readonly messagesReceived: number
  readonly messagesSent: number
  readonly bytesReceived: number
  readonly bytesSent: number
  readonly transactionsCommitted: number
  readonly transactionsRefused: number
  readonly transactionsUnknown: number
  readonly changes: number
  readonly pendingCalls: number
  readonly unsentBytes: number
  readonly rows: number
}

const counted: readonly Family<OvsdbReadings>[] = [
  {
    name: 'ovs_bridged_ovsdb_connections_total',
    help: 'Connections to the database that came about.',
    values: ({ connects }) => ({ '': connects }),
  },
  {
    name: 'ovs_bridged_ovsdb_losses_total',
    help: 'Connections to the database, and attempts to connect, that ended.',
    values: ({ losses }) => ({ '': losses }),
  },
  {
    name: 'ovs_bridged_ovsdb_loads_total',
    help: 'Dumps of the database that were taken in: the first, and one after each loss or change of the schema.',
    values: ({ loads }) => ({ '': loads }),
  },
  {
    name: 'ovs_bridged_ovsdb_probes_total',
    help: 'Echoes sent to a server that was silent.',
    values: ({ probes }) => ({ '': probes }),
  },
  {
    name: 'ovs_bridged_ovsdb_messages_total',
    help: 'Messages from and to the database.',
    label: 'direction',
    values: ({ messagesReceived, messagesSent }) => ({ received: messagesReceived, sent: messagesSent }),
  },
  {
    name: 'ovs_bridged_ovsdb_bytes_total',
    help: 'Bytes from and to the database.',
    label: 'direction',
    values: ({ bytesReceived, bytesSent }) => ({ received: bytesReceived, sent: bytesSent }),
  },
  {
    name: 'ovs_bridged_ovsdb_transactions_total',
    help: 'Transactions by what became of them; unknown: the answer was lost with the connection.',
    label: 'outcome',
    values: ({ transactionsCommitted: committed, transactionsRefused: refused, transactionsUnknown: unknown }) => ({
      committed,
      refused,
      unknown,
    }),
  },
  {
    name: 'ovs_bridged_ovsdb_changes_total',
    help: 'Rows that came, changed or went in the replica of the database.',
    values: ({ changes }) => ({ '': changes }),
  },
]

const present: readonly Family<OvsdbReadings>[] = [
  {
    name: 'ovs_bridged_ovsdb_pending_calls',
    help: 'Calls that wait for an answer of the database.',
    values: ({ pendingCalls }) => ({ '': pendingCalls }),
  },
  {
    name: 'ovs_bridged_ovsdb_unsent_bytes',
    help: 'Bytes that the database has not taken yet.',
    values: ({ unsentBytes }) => ({ '': unsentBytes }),
  },
  {
    name: 'ovs_bridged_ovsdb_rows',
    help: 'Rows of the replica of the database.',
    values: ({ rows }) => ({ '': rows }),
  },
]

/** The connection to the database, asked whenever the registry is rendered. */
export function ovsdbRegistry(read: () => OvsdbReading): Registry {
  const registry = readingsRegistry(() => read().readings, { counted, present })
  registry.registerMetric(
    new Gauge({
      name: 'ovs_bridged_ovsdb_state',
      help: '1 for the state that the connection to the database is in, 0 for the others; only in ready it takes changes.',
      labelNames: ['state'],
      registers: [],
      collect() {
        const { states, state: current } = read()
        for (const state of states) this.set({ state }, state === current ? 1 : 0)
      },
    }),
  )
  return registry
}
