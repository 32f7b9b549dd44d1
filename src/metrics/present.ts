import { collectDefaultMetrics, Gauge, type GaugeConfiguration, Registry } from 'prom-client'
import type { AddressReadings } from './addresses.js'
import type { OvsdbReading } from './ovsdb.js'
import type { TapTotals } from './tap-lines.js'

/** What is asked at each scrape. Answers at once, from memory. */
export interface Present {
  /** How many taps there are of each kind in each state, 0 included. */
  readonly taps: () => Iterable<{ readonly kind: string; readonly state: string; readonly count: number }>
  /** Of each tap of which anything has been told; none where they are not wanted. */
  readonly tapTotals: () => readonly TapTotals[]
  /** Of each streaming RPC, also without streams. */
  readonly streams: () => Iterable<StreamsReading>
  readonly addresses: () => AddressReadings
  readonly ovsdb: () => OvsdbReading
}

/** The open streams of one RPC. */
export interface StreamsReading {
  readonly method: string
  readonly open: number
  /** Of these, those whose reader takes nothing at the moment. */
  readonly held: number
  /** How long the most patient of them has waited for its reader; 0: none waits. */
  readonly lagMs: number
}

/** Gauges that show how things stand whenever the registry is rendered. */
export function presentRegistry(present: Present): Registry {
  const registry = new Registry()
  const add = (gauge: GaugeConfiguration<string>) => registry.registerMetric(new Gauge({ ...gauge, registers: [] }))
  const addStreams = (name: string, help: string, of: (streams: StreamsReading) => number) =>
    add({
      name,
      help,
      labelNames: ['method'],
      collect() {
        for (const streams of present.streams()) this.set({ method: streams.method }, of(streams))
      },
    })
  add({
    name: 'ovs_bridged_taps',
    help: 'Taps by kind and state.',
    labelNames: ['kind', 'state'],
    collect() {
      for (const { kind, state, count } of present.taps()) this.set({ kind, state }, count)
    },
  })
  addStreams('ovs_bridged_streams', 'Open streams.', ({ open }) => open)
  addStreams('ovs_bridged_streams_held', 'Open streams whose reader takes nothing at the moment.', ({ held }) => held)
  addStreams(
    'ovs_bridged_stream_lag_seconds',
    'How long the stream that has waited longest has waited for its reader; 0: none waits.',
    ({ lagMs }) => lagMs / 1_000,
  )
  return registry
}

/** Gauges of prom-client's that are named like counters, which promtool rightly minds. */
const misnamed = ['nodejs_active_resources_total', 'nodejs_active_handles_total', 'nodejs_active_requests_total']

/**
 * Between looks at the event loop's delay, which is told with this in it. Each wakes the process: prom-client's 10 ms cost
 * an idle service more than all it does.
 */
const loopLookMs = 50

/** CPU, memory, descriptors, event loop and garbage collection of this process, as every Node.js program names them. */
export function processRegistry(): Registry {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: loopLookMs })
  for (const name of misnamed) registry.removeSingleMetric(name)
  return registry
}
