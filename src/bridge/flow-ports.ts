import type { Change } from '../ovsdb/index.js'
import { type OvsReplica, type OvsRows, portsOf } from './ovs.js'

/** Who has had an OpenFlow port's number, and when; milliseconds since the epoch. */
interface Tenure {
  readonly name: string
  readonly sinceMs: number
  untilMs: number | undefined
}

/** Longer than any record of a flow of a port that is gone is on its way. */
const keptMs = 300_000

/**
 * The names behind the OpenFlow port numbers of one bridge, now and a while ago: a record may tell of a port that has gone
 * or got another number since its packets passed.
 */
export class FlowPorts {
  /** The latest tenure of each number last. */
  readonly #tenures = new Map<number, Tenure[]>()

  /** Takes in who has which number now. */
  update(names: ReadonlyMap<number, string>, nowMs: number): void {
    for (const [number, tenures] of this.#tenures) {
      const holder = holderOf(tenures)
      if (holder !== undefined && holder.name !== names.get(number)) holder.untilMs = nowMs
      const kept = tenures.filter(({ untilMs }) => untilMs === undefined || untilMs > nowMs - keptMs)
      if (kept.length === 0) this.#tenures.delete(number)
      else this.#tenures.set(number, kept)
    }
    for (const [number, name] of names) {
      const tenures = this.#tenures.get(number) ?? []
      if (holderOf(tenures) !== undefined) continue
      this.#tenures.set(number, [...tenures, { name, sinceMs: nowMs, untilMs: undefined }])
    }
  }

  /** The name behind a number when a flow's last packet passed; undefined: nobody's that we know of. */
  nameAt(number: number, lastMs: number): string | undefined {
    const tenures = this.#tenures.get(number) ?? []
    // Packets pass before OVSDB tells of the number, so a tenure may begin a little earlier than it seems.
    const then = tenures.findLast(
      ({ sinceMs, untilMs }) => sinceMs <= lastMs && (untilMs === undefined || lastMs <= untilMs),
    )
    return (then ?? tenures.find(({ sinceMs }) => sinceMs > lastMs) ?? tenures.at(-1))?.name
  }
}

/** Who has the number still. */
function holderOf(tenures: readonly Tenure[]): Tenure | undefined {
  const latest = tenures.at(-1)
  return latest?.untilMs === undefined ? latest : undefined
}

/** The names of a bridge's interfaces by their OpenFlow port numbers. ovs-vswitchd.conf.db(5), Interface.ofport. */
export function namesByOfport(replica: OvsReplica, bridge: OvsRows['Bridge']): Map<number, string> {
  const names = new Map<number, string>()
  for (const port of portsOf(replica, bridge)) {
    for (const uuid of port.interfaces) {
      const { name, ofport } = replica.get('Interface', uuid) ?? {}
      if (name !== undefined && ofport !== undefined && Number(ofport) > 0) names.set(Number(ofport), name)
    }
  }
  return names
}

/** Whether a transaction may have changed what {@link namesByOfport} says of any bridge. */
export function changesOfports(changes: readonly Change<OvsRows>[]): boolean {
  return changes.some(change => {
    switch (change.table) {
      case 'Interface':
        return change.kind !== 'modify' || change.before.ofport !== change.after.ofport
      case 'Bridge':
        return change.kind !== 'modify' || change.before.ports !== change.after.ports
      case 'Port':
        return change.kind !== 'modify' || change.before.interfaces !== change.after.interfaces
      default:
        return false
    }
  })
}
