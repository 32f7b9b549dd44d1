import type { Link, Qdisc, QdiscEvent } from '../kernel/index.js'
import { abortScope, sleep } from '../lib/abort.js'
import { assertNever } from '../lib/assert-never.js'
import { OneAtATime } from '../lib/one-at-a-time.js'
import type { Call } from './call.js'
import { hearQdiscs } from './hear-qdiscs.js'
import type { Notice } from './notice.js'
import type { OvsRows } from './ovs.js'
import { recordedTap, type TapRecord } from './ownership-tap.js'
import type { PolicingGrounds } from './policing.js'
import { deviceNotFound } from './problem.js'
import { QosForce } from './qos-force.js'
import { isPlain, type Qos } from './qos-parse.js'
import { isInForce, isSameQdisc, mayHideMore, qdiscOf } from './qos-qdisc.js'
import { noDevice } from './qos-standing.js'
import { type Direction, directions, RestorationLog } from './restorations.js'

/** What the upkeep works on. */
export interface UpkeepGrounds extends PolicingGrounds {
  /** Told whenever the QoS of a tap was put back. */
  readonly onRestored?: () => void
  readonly notice: Notice
}

/** ovs-vswitchd takes a policer away for a moment to set it anew. */
const graceMs = 1_000

/** While ovs-vswitchd does not answer, calls must get their turn; it polices by itself when it comes back. */
const restoreWithinMs = 10_000

/**
 * Keeps the kernel's qdiscs as the records of the taps say: after somebody has taken one away, after a device was made
 * anew, after its MTU has changed. It hears of the first from the kernel, of the others from the database.
 */
export class QosUpkeep implements Disposable {
  readonly #grounds: UpkeepGrounds
  readonly #subscription: Disposable
  readonly #force: QosForce
  readonly #turns = new OneAtATime()
  readonly #restorations = { toEndpoint: new RestorationLog(), fromEndpoint: new RestorationLog() }
  #watching = false

  constructor(grounds: UpkeepGrounds) {
    this.#grounds = grounds
    this.#force = new QosForce(grounds, () => this.#watch())
    this.#subscription = grounds.ovsdb.subscribe(changes => {
      for (const change of changes) {
        if (change.table === 'Interface' && change.kind !== 'delete') this.#compare(change.after)
        if (change.table === 'QoS' && change.kind === 'modify') this.#recordChanged(change.after)
      }
      const isGone = (name: string) => grounds.records.get(name) === undefined
      for (const name of this.#force.names()) if (isGone(name)) this.#force.forget(name)
      for (const direction of directions) this.#restorations[direction].forget(isGone)
    })
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]()
  }

  /** How often the QoS of a tap was put back in this run. */
  timesRestored(name: string): number {
    const { toEndpoint, fromEndpoint } = this.#restorations
    return toEndpoint.timesRestored(name) + fromEndpoint.timesRestored(name)
  }

  /** Runs `work` when no other work on this tap's QoS is under way. */
  async exclusive<T>(name: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    return await this.#turns.run(name, signal, work)
  }

  /**
   * Makes the kernel do `qos` on a device. Whoever calls it has the tap exclusively. Errors: those of `setQdisc`, nothing is
   * changed then.
   */
  async put(link: Link, qos: Qos, signal: AbortSignal): Promise<void> {
    await this.#force.put(link, qos, signal)
    this.#restorations.toEndpoint.encourage(link.name)
  }

  /** Has `qos` and a limit done once there is a device of this name. Whoever calls it has the tap exclusively. */
  putLater(name: string, qos: Qos, policedKbps: number): void {
    this.#force.putLater(name, qos, policedKbps)
  }

  /**
   * Makes the kernel follow a tap's record as it stands by now, after a change that failed half-way: who has lost the database
   * in the midst of a commit does not know which it is. What fails is tried again. Whoever calls it has the tap exclusively.
   */
  async settle(name: string): Promise<void> {
    const { kernel, lifetime, records } = this.#grounds
    try {
      const link = await kernel.getLink(name, lifetime)
      // It is noted in the same turn, so that no change of the record goes unheard in between.
      const record = records.get(name)?.record
      if (record === undefined) return
      if (link === undefined) this.putLater(name, record.qos, record.policedKbps)
      else await this.put(link, record.qos, lifetime)
    } catch (error) {
      this.#failed(name, 'toEndpoint', error)
    }
  }

  /**
   * Has what comes from a tap policed as its record says; ovs-vswitchd does so on a bridge, and leaves a device that is
   * detached as it was. Whoever calls it has the tap exclusively. Errors: those of `ensurePoliced`.
   */
  async police(link: Link, record: TapRecord, call: Call): Promise<void> {
    await this.#force.police(link, record, call)
    this.#restorations.fromEndpoint.encourage(link.name)
  }

  /** Makes the kernel do what the tap's record says. Errors: `not-found` device, those of {@link put} and {@link police}. */
  async ensure(name: string, call: Call): Promise<void> {
    if (!this.#concerns(name)) return
    await this.exclusive(name, call.signal, async () => {
      const record = this.#grounds.records.get(name)?.record
      if (record === undefined) return
      const link = await this.#grounds.kernel.getLink(name, call.signal)
      if (link === undefined) throw deviceNotFound(name)
      await this.put(link, record.qos, call.signal)
      await this.police(link, record, call)
    })
  }

  /** Takes our qdisc, and the policer that the record asked for, off a device that stays behind. */
  async release(record: TapRecord, signal: AbortSignal): Promise<void> {
    await this.exclusive(record.name, signal, () => this.#force.release(record, signal))
  }

  /** Compares all taps with the kernel, for the start; answers with those whose QoS had to be set or taken away. */
  async reconcile(call: Call): Promise<string[]> {
    const { kernel, records } = this.#grounds
    const links = new Map((await kernel.listLinks(call.signal)).map(link => [link.name, link]))
    const qdiscs = await kernel.listQdiscs(call.signal)
    const changed: string[] = []
    for (const { record } of records.all()) {
      const { name } = record
      const link = links.get(name)
      if (record.defunct || record.backing.kind === 'host') continue
      if (link === undefined) {
        this.putLater(name, record.qos, record.policedKbps)
        continue
      }
      this.#force.note(link, record)
      const actual = qdiscs.get(link.index)
      let isChanged = false
      for (const direction of directions) {
        try {
          if (await this.#force.isAsRecorded(direction, link, record, actual, call.signal)) continue
          await this.exclusive(name, call.signal, () => this.#putBack(direction, link, record, actual, call))
          isChanged = true
        } catch (error) {
          call.signal.throwIfAborted()
          this.#failed(name, direction, error)
        }
      }
      if (isChanged) changed.push(name)
    }
    return changed
  }

  #concerns(name: string): boolean {
    const record = this.#grounds.records.get(name)?.record
    if (this.#force.standing(name) !== undefined) return true
    return record !== undefined && (record.policedKbps > 0 || !isPlain(record.qos))
  }

  /** What others have made of our qdisc goes with it; a qdisc of their own is replaced as it stands. */
  async #putBack(direction: Direction, link: Link, record: TapRecord, actual: Qdisc | undefined, call: Call) {
    if (direction === 'fromEndpoint') return await this.police(link, record, call)
    await this.#force.put(link, record.qos, call.signal, actual?.ours === true)
    this.#restorations.toEndpoint.encourage(link.name)
  }

  #watch(): void {
    // Not before there is QoS to look after.
    if (this.#watching) return
    this.#watching = true
    void hearQdiscs(this.#grounds, event => this.#hear(event))
  }

  /** ovs-vswitchd tells of a device made anew, and of its MTU. */
  #compare(row: OvsRows['Interface']): void {
    const standing = this.#force.standing(row.name)
    if (standing === undefined || (row.ifindex ?? noDevice) === noDevice) return
    if (row.ifindex !== standing.index || (row.mtu ?? standing.mtuBytes) !== standing.mtuBytes)
      this.#checkBoth(row.name)
  }

  /** Not by us: our own changes stand before they are committed. Or by a call of ours that never learnt its outcome. */
  #recordChanged(row: OvsRows['QoS']): void {
    const { instance, records } = this.#grounds
    const name = recordedTap(instance, row.external_ids)
    const record = name === undefined ? undefined : records.get(name)?.record
    if (record === undefined || record.defunct || !this.#concerns(record.name)) return
    const standing = this.#force.standing(record.name)
    const wanted = standing && qdiscOf(record.qos, standing.mtuBytes)
    if (standing === undefined || !isSameQdisc(wanted, standing.wanted)) this.#checkRoot(record.name)
    if (record.policedKbps !== standing?.policedKbps) this.#check(record.name, 'fromEndpoint')
  }

  #hear(event: QdiscEvent): void {
    switch (event.type) {
      case 'subscribed':
      case 'overrun':
        for (const name of this.#force.names()) this.#checkBoth(name)
        return
      case 'changed':
      case 'gone': {
        const found = this.#force.onDevice(event.index)
        if (found?.standing.wanted === undefined) return
        const isTampered = event.type === 'changed' && !event.byUs && mayHideMore(event.qdisc)
        if (isTampered) this.#force.distrust(event.index)
        if (isTampered || event.type === 'gone' || !isInForce(found.standing.wanted, event.qdisc))
          this.#checkRoot(found.name)
        return
      }
      case 'ingress-gone': {
        const found = this.#force.onDevice(event.index)
        if (found !== undefined && found.standing.policedKbps > 0) this.#check(found.name, 'fromEndpoint', graceMs)
        return
      }
      default:
        assertNever(event)
    }
  }

  #checkBoth(name: string): void {
    this.#checkRoot(name)
    this.#check(name, 'fromEndpoint')
  }

  /** What the kernel tells of a root qdisc is no echo of a failure, as it can be of a policer: it is looked at soon. */
  #checkRoot(name: string): void {
    this.#restorations.toEndpoint.encourage(name)
    this.#check(name, 'toEndpoint')
  }

  /** Looks at a direction of a tap when it may, and puts its QoS back if need be. */
  #check(name: string, direction: Direction, afterMs = 0): void {
    const dueMs = this.#restorations[direction].plan(name, afterMs)
    if (dueMs === undefined) return
    this.#restore(name, direction, dueMs).catch((error: unknown) => this.#failed(name, direction, error))
  }

  /** Tries again later, and ever later. */
  #failed(name: string, direction: Direction, error: unknown): void {
    const { lifetime, notice } = this.#grounds
    if (lifetime.aborted) return
    this.#restorations[direction].failed(name)
    notice('warn', 'the QoS of a tap could not be put back; trying again', { tap: name, direction, error })
    this.#check(name, direction)
  }

  async #restore(name: string, direction: Direction, dueMs: number): Promise<void> {
    const { kernel, lifetime, records, notice } = this.#grounds
    const restorations = this.#restorations[direction]
    await sleep(Math.max(dueMs - performance.now(), 0), lifetime)
    await this.exclusive(name, lifetime, async () => {
      if (!restorations.begin(name, dueMs)) return
      const record = records.get(name)?.record
      const link = await kernel.getLink(name, lifetime)
      if (record === undefined || record.defunct || link === undefined) return
      const actual = await kernel.getQdisc(link.index, lifetime)
      if (await this.#force.isAsRecorded(direction, link, record, actual, lifetime)) {
        this.#force.noteOne(direction, link, record)
        return
      }
      // What was heard of while the last attempt was under way did not know of it.
      if (restorations.mustWait(name)) {
        this.#check(name, direction)
        return
      }
      restorations.attempted(name)
      using scope = abortScope({ deadline: Date.now() + restoreWithinMs, parents: [lifetime] })
      await this.#putBack(direction, link, record, actual, { signal: scope.signal, caller: 'upkeep' })
      restorations.succeeded(name)
      this.#grounds.onRestored?.()
      notice('info', 'put the QoS of a tap back', { tap: name, direction, found: actual?.kind ?? '' })
    })
  }
}
