import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { Engine } from '../../src/netflow/index.js'

/** What the thread is to send, its `workerData`. */
export interface FlowFloodOrder {
  readonly engine: Engine
  /** Of 127.0.0.1. */
  readonly port: number
  readonly flowsPerSecond: number
  readonly seconds: number
}

/** What it has sent: full datagrams, the first flow number 0. */
export interface FlowFlooded {
  readonly sentFlows: number
  readonly elapsedMs: number
}

/** As many as Open vSwitch puts into a datagram. */
export const flowsPerDatagram = 30

/**
 * Sends NetFlow from a thread of its own for at least `seconds`, whatever the receiver does meanwhile: at the rate that was
 * asked on the whole, or for ten times as long as fast as it can.
 */
export async function floodFlows(order: FlowFloodOrder): Promise<FlowFlooded> {
  const worker = new Worker(new URL('./flow-flood-worker.js', import.meta.url), { workerData: order })
  const [flooded] = (await once(worker, 'message')) as [FlowFlooded]
  return flooded
}
