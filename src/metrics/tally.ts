import { Counter, Gauge, Histogram, Registry } from 'prom-client'

/** A call that is over. */
export interface CallReading {
  readonly kind: 'unary' | 'stream'
  readonly method: string
  /** Name of its status: `OK`, `NOT_FOUND`… */
  readonly code: string
  readonly durationMs: number
}

export interface TransactionReading {
  /** Callers' changes that it carried. */
  readonly parts: number
  readonly outcome: 'committed' | 'failed'
  readonly durationMs: number
}

/** Counts what happens, from the start of the daemon on. */
export interface Tally {
  readonly registry: Registry
  call(call: CallReading): void
  transaction(transaction: TransactionReading): void
  /** The connection to the database has entered a state. */
  ovsdbEntered(state: string): void
  /** What there is was compared with what should be. */
  reconciled(occasion: string, outcome: 'done' | 'failed'): void
  /** Something was not as it should be, and was put right. */
  repaired(what: string, count: number): void
  /** Whether ovs-vswitchd has answered. */
  vswitchdAnswered(answered: boolean): void
}

/** Seconds: from an answer out of memory to a bulk call at its deadline. */
const callBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
const transactionBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5]

export interface TallyOptions {
  readonly version: string
  /** All that may be put right. */
  readonly repairs: readonly string[]
}

export function newTally({ version, repairs }: TallyOptions): Tally {
  const registry = new Registry()
  const { build, ...families } = familiesIn(registry)
  build.set({ version, node_version: process.versions.node }, 1)
  // What has not happened yet is told as 0: an increase is seen from the first time on.
  for (const what of repairs) families.repaired.inc({ what }, 0)
  return {
    registry,
    call: ({ kind, method, code, durationMs }) => {
      families.calls.inc({ method, code })
      if (kind === 'unary') families.callSeconds.observe({ method }, durationMs / 1_000)
    },
    transaction: ({ parts, outcome, durationMs }) => {
      families.parts.inc(parts)
      families.transactionSeconds.observe({ outcome }, durationMs / 1_000)
    },
    ovsdbEntered: state => families.states.inc({ state }),
    reconciled: (occasion, outcome) => families.reconciliations.inc({ occasion, outcome }),
    repaired: (what, count) => families.repaired.inc({ what }, count),
    vswitchdAnswered: answered => families.vswitchdUp.set(answered ? 1 : 0),
  }
}

/** What is told, as it stands in docs and dashboards. */
function familiesIn(registry: Registry) {
  const registers = [registry]
  return {
    build: new Gauge({
      name: 'ovs_bridged_build_info',
      help: 'Always 1; the labels tell what runs.',
      labelNames: ['version', 'node_version'],
      registers,
    }),
    calls: new Counter({
      name: 'ovs_bridged_calls_total',
      help: 'Calls that are over, by RPC and gRPC status; a stream counts when it ends.',
      labelNames: ['method', 'code'],
      registers,
    }),
    callSeconds: new Histogram({
      name: 'ovs_bridged_call_duration_seconds',
      help: 'From the arrival of a unary call to its answer.',
      labelNames: ['method'],
      buckets: callBuckets,
      registers,
    }),
    transactionSeconds: new Histogram({
      name: 'ovs_bridged_ovsdb_transaction_duration_seconds',
      help: 'From sending a transaction to the database until its answer.',
      labelNames: ['outcome'],
      buckets: transactionBuckets,
      registers,
    }),
    parts: new Counter({
      name: 'ovs_bridged_ovsdb_transaction_parts_total',
      help: 'Changes of callers that transactions carried: those that wait at the same time share one.',
      registers,
    }),
    states: new Counter({
      name: 'ovs_bridged_ovsdb_state_changes_total',
      help: 'How often the connection to the database has entered each state.',
      labelNames: ['state'],
      registers,
    }),
    reconciliations: new Counter({
      name: 'ovs_bridged_reconciliations_total',
      help: 'Comparisons of what Open vSwitch and the kernel have with what they should have.',
      labelNames: ['occasion', 'outcome'],
      registers,
    }),
    repaired: new Counter({
      name: 'ovs_bridged_repairs_total',
      help: 'Things that were not as they should be and were put right.',
      labelNames: ['what'],
      registers,
    }),
    vswitchdUp: new Gauge({
      name: 'ovs_bridged_vswitchd_up',
      help: 'Whether ovs-vswitchd answers; it is asked every 2 s.',
      registers,
    }),
  }
}
