import { ChangeLog } from '../lib/fanout.js'
import { randomId } from './ownership.js'

/** 15 s: long enough to cost nothing, short enough for a client to tell a dead connection from a quiet host. */
const heartbeatMs = 15_000

/** Some 10 MB at worst. More than any single call can change, so that nobody who reads has to start again. */
const maxChanges = 32_768

/** What becomes of taps, or of addresses, in this run of the service. */
export function newChangeLog<V>(): ChangeLog<V> {
  return new ChangeLog<V>({ epoch: randomId(), maxChanges, heartbeatMs })
}
