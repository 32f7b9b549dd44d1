import { bondOf } from './bond-port.js'
import type { Host } from './host.js'
import type { PortName } from './names.js'
import type { TapRecord } from './ownership-tap.js'
import { busy, tapNotFound } from './problem.js'

// What other calls have made of a tap, since a call has looked at it or placed it.

/** The record of a tap that is not defunct. */
export function recordOf(host: Host, name: PortName): TapRecord {
  const kept = host.records.get(name)
  if (kept === undefined || kept.record.defunct) throw tapNotFound(name)
  return kept.record
}

/** Throws `busy` when another call has changed the tap since this one looked at it. */
export function refuseChanged(host: Host, before: TapRecord): void {
  if (!isSame(recordOf(host, before.name), before)) throw busy(`${before.name} was changed by another call meanwhile`)
}

/** Whether a tap is what and where it was. */
function isSame(now: TapRecord, then: TapRecord): boolean {
  return (
    now.id === then.id &&
    now.bridge === then.bridge &&
    now.vlan === then.vlan &&
    now.qinqOuterVlan === then.qinqOuterVlan &&
    now.mac === then.mac
  )
}

/** Whether a tap still is as a call has placed it, and another call has built nothing on that: it may be taken back. */
export function isUntouched(host: Host, placed: TapRecord): boolean {
  const now = host.records.get(placed.name)?.record
  return now !== undefined && !now.defunct && isSame(now, placed) && bondOf(host, placed.name) === undefined
}

/**
 * Whether another call has moved a tap off the bridge or destroyed it since a call has placed it there: nothing more will
 * come of that placement, and a host tap's device may be another by now.
 */
export function isSuperseded(host: Host, placed: TapRecord): boolean {
  const now = host.records.get(placed.name)?.record
  return now === undefined || now.id !== placed.id || now.defunct || now.bridge !== placed.bridge
}
