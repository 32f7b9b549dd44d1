import type { Change } from '../ovsdb/index.js'
import { type OvsReplica, type OvsRows, portsOf } from './ovs.js'

/** Who has had an OpenFlow port's number, and when; milliseconds since the epoch. */
interface Tenure {
  readonly number: number
  readonly name: string
  readonly sinceMs: number
  /** Infinity: still. */
  untilMs: number
}

/** Longer than any record is on its way once it is due. */
const leastKeptMs = 300_000

/** Some 4 MB. */
const maxGone = 10_000

/**
 * OVSDB tells of a port that goes before its last packets pass, and of one that comes after its first; longer while
 * ovs-vswitchd is busy.
 */
const graceMs = 10_000

/**
 * The names behind the OpenFlow port numbers of one bridge, now and a while ago: a record may tell of a port that has gone
 * or got another number since its packets passed. Those that are gone are kept for twice the active timeout, and at least
 * five minutes; of too many the oldest go first.
 */
export class FlowPorts {
  /** The latest tenure of each number last. */
  readonly #tenures = new Map<number, readonly Tenure[]>()
  /** Those that go on, by number. */
  readonly #present = new Map<number, Tenure>()
  /** As they went. */
  readonly #gone: Tenure[] = []
  #keptMs: number
  /** What holds until the flows that were under way when the timeout was shortened have been told. */
  #formerly = { keptMs: 0, untilMs: 0 }

  constructor(activeTimeoutS: number) {
    this.#keptMs = keptMsFor(activeTimeoutS)
  }

  /** Takes in that flows are told so often from now on. */
  setActiveTimeout(activeTimeoutS: number, nowMs: number): void {
    const keptMs = keptMsFor(activeTimeoutS)
    if (keptMs < this.#keptMs) this.#formerly = { keptMs: this.#keptMsAt(nowMs), untilMs: nowMs + leastKeptMs }
    this.#keptMs = keptMs
  }

  /** Takes in who has which number now. The first time, nobody knows since when. */
  update(names: ReadonlyMap<number, string>, nowMs: number): void {
    const sinceMs = this.#tenures.size === 0 ? Number.NEGATIVE_INFINITY : nowMs
    for (const [number, holder] of this.#present) {
      if (holder.name === names.get(number)) continue
      holder.untilMs = nowMs
      this.#present.delete(number)
      this.#gone.push(holder)
    }
    this.#forget(nowMs)
    for (const [number, name] of names) {
      if (this.#present.has(number)) continue
      const holder = { number, name, sinceMs, untilMs: Number.POSITIVE_INFINITY }
      this.#present.set(number, holder)
      this.#tenures.set(number, [...(this.#tenures.get(number) ?? []), holder])
    }
  }

  /** The name behind a number when a flow's last packet passed; undefined: nobody's that we know of. */
  nameAt(number: number, lastMs: number): string | undefined {
    let nearest: { readonly name: string; readonly awayMs: number } | undefined
    for (const { name, sinceMs, untilMs } of this.#tenures.get(number) ?? []) {
      const awayMs = Math.max(sinceMs - lastMs, lastMs - untilMs, 0)
      if (awayMs <= (nearest?.awayMs ?? graceMs)) nearest = { name, awayMs }
    }
    return nearest?.name
  }

  #keptMsAt(nowMs: number): number {
    return nowMs < this.#formerly.untilMs ? Math.max(this.#keptMs, this.#formerly.keptMs) : this.#keptMs
  }

  #forget(nowMs: number): void {
    const keptSinceMs = nowMs - this.#keptMsAt(nowMs)
    const tooMany = this.#gone.length - maxGone
    const firstKept = this.#gone.findIndex(({ untilMs }, i) => i >= tooMany && untilMs > keptSinceMs)
    for (const { number } of this.#gone.splice(0, firstKept === -1 ? this.#gone.length : firstKept)) {
      // A number's tenures go in the order in which they came.
      const [, ...rest] = this.#tenures.get(number) ?? []
      if (rest.length === 0) this.#tenures.delete(number)
      else this.#tenures.set(number, rest)
    }
  }
}

function keptMsFor(activeTimeoutS: number): number {
  return Math.max(leastKeptMs, 2_000 * activeTimeoutS)
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
