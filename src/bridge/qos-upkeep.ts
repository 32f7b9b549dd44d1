import type { Link, Qdisc, QdiscEvent, QdiscSpec } from '../kernel/index.js'
import { abortScope, raceAbort, sleep } from '../lib/abort.js'
import { assertNever } from '../lib/assert-never.js'
import type { Call } from './call.js'
import type { OvsRows } from './ovs.js'
import { recordedTap, type TapRecord } from './ownership-tap.js'
import { ensurePoliced, isPoliced, type PolicingGrounds } from './policing.js'
import { deviceNotFound } from './problem.js'
import type { Qos } from './qos-parse.js'
import { isSameQdisc, qdiscOf } from './qos-qdisc.js'

/** What the upkeep works on. */
export interface UpkeepGrounds extends PolicingGrounds {
  /** Told whenever the QoS of a tap was put back. */
  readonly onRestored?: () => void
  readonly notice: (level: 'info' | 'warn', message: string, details: Readonly<Record<string, unknown>>) => void
}

/** What is to be in force on a device, by its index. */
interface Standing {
  readonly index: number
  readonly mtuBytes: number
  /** Towards the endpoint; undefined: nothing. */
  readonly wanted: QdiscSpec | undefined
  /** From the endpoint; 0: nothing. */
  readonly policedKbps: number
}

/** A tap's QoS is put back at most this often: whoever takes it away again and again is not answered blow for blow. */
const restoreIntervalMs = 1_000

/** While ovs-vswitchd does not answer, calls must get their turn; it polices by itself when it comes back. */
const restoreWithinMs = 10_000

/**
 * Keeps the kernel's qdiscs as the records of the taps say: after somebody has taken one away, after a device was made
 * anew, after its MTU has changed. It hears of the first from the kernel, of the others from the database.
 */
export class QosUpkeep implements Disposable {
  readonly #grounds: UpkeepGrounds
  readonly #subscription: Disposable
  readonly #standing = new Map<string, Standing>()
  readonly #names = new Map<number, string>()
  /** The end of the last piece of work on each tap. */
  readonly #turns = new Map<string, Promise<unknown>>()
  readonly #due = new Set<string>()
  readonly #restored = new Map<string, { readonly times: number; readonly atMs: number }>()
  #watching = false

  constructor(grounds: UpkeepGrounds) {
    this.#grounds = grounds
    this.#subscription = grounds.ovsdb.subscribe(changes => {
      for (const change of changes) {
        if (change.table === 'Interface' && change.kind !== 'delete') this.#compare(change.after)
        if (change.table === 'QoS' && change.kind === 'modify') this.#recordChanged(change.after)
      }
      for (const [name] of this.#standing) if (grounds.records.get(name) === undefined) this.#forget(name)
      for (const [name] of this.#restored) if (grounds.records.get(name) === undefined) this.#restored.delete(name)
    })
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]()
  }

  /** How often the QoS of a tap was put back in this run. */
  timesRestored(name: string): number {
    return this.#restored.get(name)?.times ?? 0
  }

  /** Runs `work` when no other work on this tap's QoS is under way. */
  async exclusive<T>(name: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    const former = this.#turns.get(name) ?? Promise.resolve()
    const turn = raceAbort(former, signal).then(work)
    // Who comes next waits for both: this one may have given up waiting for its turn.
    const end = Promise.allSettled([former, turn])
    this.#turns.set(name, end)
    void end.then(() => {
      if (this.#turns.get(name) === end) this.#turns.delete(name)
    })
    return await turn
  }

  /** Makes the kernel do `qos` on a device. Whoever calls it has the tap exclusively. Errors: those of `setQdisc`, nothing is changed then. */
  async put(link: Link, qos: Qos, signal: AbortSignal): Promise<void> {
    const { kernel } = this.#grounds
    const wanted = qdiscOf(qos, link.mtuBytes)
    const policedKbps = this.#standing.get(link.name)?.policedKbps ?? 0
    await this.#noting(link, wanted, policedKbps, async () => {
      if (wanted === undefined) await kernel.removeQdisc(link.index, signal)
      else await kernel.setQdisc(link.index, wanted, signal)
    })
  }

  /**
   * Has what comes from a tap policed as its record says; ovs-vswitchd does so on a bridge, and leaves a device that is
   * detached as it was. Whoever calls it has the tap exclusively. Errors: those of `ensurePoliced`.
   */
  async police(link: Link, record: TapRecord, call: Call): Promise<void> {
    const { policedKbps, bridge } = record
    const former = this.#standing.get(link.name)
    const isLeft = bridge === undefined && policedKbps === 0 && former !== undefined && former.policedKbps > 0
    await this.#noting(link, former?.wanted, policedKbps, async () => {
      if (isLeft) await this.#grounds.kernel.removeIngressQdisc(link.index, call.signal)
      if (bridge !== undefined && policedKbps > 0) await ensurePoliced(this.#grounds, record, link.index, call)
    })
  }

  /** Makes the kernel do what the tap's record says. Errors: `not-found` device, those of {@link put} and {@link police}. */
  async ensure(name: string, call: Call): Promise<void> {
    if (!this.#concerns(name)) return
    await this.exclusive(name, call.signal, async () => {
      const record = this.#grounds.records.get(name)?.record
      if (record === undefined) return
      const link = await this.#grounds.kernel.getLink(name, call.signal)
      if (link === undefined) throw deviceNotFound(name)
      await this.#putBoth(link, record, call)
    })
  }

  /** Takes our qdisc, and the policer that we asked for, off a device that stays behind. */
  async release(name: string, signal: AbortSignal): Promise<void> {
    await this.exclusive(name, signal, async () => {
      const { kernel } = this.#grounds
      const policed = (this.#standing.get(name)?.policedKbps ?? 0) > 0
      this.#forget(name)
      const link = await kernel.getLink(name, signal)
      if (link === undefined) return
      await kernel.removeQdisc(link.index, signal)
      if (policed) await kernel.removeIngressQdisc(link.index, signal)
    })
  }

  /** Compares all taps with the kernel, for the start; answers with those whose QoS had to be set or taken away. */
  async reconcile(call: Call): Promise<string[]> {
    const { kernel, records, notice } = this.#grounds
    const links = new Map((await kernel.listLinks(call.signal)).map(link => [link.name, link]))
    const qdiscs = await kernel.listQdiscs(call.signal)
    const changed: string[] = []
    for (const { record } of records.all()) {
      const { name } = record
      const link = links.get(name)
      if (link === undefined || record.defunct || record.backing.kind === 'host') continue
      this.#note(link, qdiscOf(record.qos, link.mtuBytes), record.policedKbps)
      try {
        if (await this.#isAsRecorded(link, record, qdiscs.get(link.index), call.signal)) continue
        await this.exclusive(name, call.signal, () => this.#putBoth(link, record, call))
        changed.push(name)
      } catch (error) {
        call.signal.throwIfAborted()
        notice('warn', 'the QoS of a tap could not be put back', { tap: name, error })
      }
    }
    return changed
  }

  #concerns(name: string): boolean {
    const record = this.#grounds.records.get(name)?.record
    if (this.#standing.has(name)) return true
    return record !== undefined && (record.policedKbps > 0 || Object.values(record.qos).some(value => value > 0))
  }

  /** Whether both directions are as the record says. What a detached tap sends goes nowhere. */
  async #isAsRecorded(link: Link, record: TapRecord, actual: Qdisc | undefined, signal: AbortSignal): Promise<boolean> {
    if (!isInForce(qdiscOf(record.qos, link.mtuBytes), actual)) return false
    if (record.policedKbps === 0 || record.bridge === undefined) return true
    return await isPoliced(this.#grounds.kernel, link.index, record.policedKbps, signal)
  }

  async #putBoth(link: Link, record: TapRecord, call: Call): Promise<void> {
    await this.put(link, record.qos, call.signal)
    await this.police(link, record, call)
  }

  /** Notes what is about to be in force, so that its events are no news; a failure leaves what was noted before. */
  async #noting(
    link: Link,
    wanted: QdiscSpec | undefined,
    policedKbps: number,
    work: () => Promise<void>,
  ): Promise<void> {
    const former = this.#standing.get(link.name)
    this.#note(link, wanted, policedKbps)
    try {
      await work()
    } catch (error) {
      if (former === undefined) this.#forget(link.name)
      else this.#keep(link.name, former)
      throw error
    }
  }

  #note({ name, index, mtuBytes }: Link, wanted: QdiscSpec | undefined, policedKbps: number): void {
    if (wanted === undefined && policedKbps === 0) this.#forget(name)
    else this.#keep(name, { index, mtuBytes, wanted, policedKbps })
  }

  #keep(name: string, standing: Standing): void {
    this.#forget(name)
    this.#standing.set(name, standing)
    this.#names.set(standing.index, name)
    void this.#watch()
  }

  #forget(name: string): void {
    const standing = this.#standing.get(name)
    if (standing === undefined) return
    this.#standing.delete(name)
    this.#names.delete(standing.index)
  }

  /** ovs-vswitchd tells of a device made anew, and of its MTU. */
  #compare(row: OvsRows['Interface']): void {
    const standing = this.#standing.get(row.name)
    if (standing === undefined || row.ifindex === undefined) return
    if (row.ifindex !== standing.index || (row.mtu ?? standing.mtuBytes) !== standing.mtuBytes) this.#check(row.name)
  }

  /** Not by us: our own changes stand before they are committed. Or by a call of ours that never learnt its outcome. */
  #recordChanged(row: OvsRows['QoS']): void {
    const { instance, records } = this.#grounds
    const name = recordedTap(instance, row.external_ids)
    const record = name === undefined ? undefined : records.get(name)?.record
    if (record === undefined || record.defunct || !this.#concerns(record.name)) return
    const standing = this.#standing.get(record.name)
    const wanted = standing && qdiscOf(record.qos, standing.mtuBytes)
    const isSame = isSameQdisc(wanted, standing?.wanted) && record.policedKbps === standing?.policedKbps
    if (!isSame) this.#check(record.name)
  }

  /** Starts to listen, with the first QoS that there is. */
  async #watch(): Promise<void> {
    if (this.#watching) return
    this.#watching = true
    const { kernel, lifetime, notice } = this.#grounds
    while (!lifetime.aborted) {
      try {
        for await (const event of kernel.watchQdiscs(lifetime)) this.#hear(event)
      } catch (error) {
        if (lifetime.aborted) return
        notice('warn', 'the kernel no longer tells of qdiscs; trying again', { error })
      }
      await sleep(restoreIntervalMs, lifetime).catch(() => undefined)
    }
  }

  #hear(event: QdiscEvent): void {
    switch (event.type) {
      case 'subscribed':
      case 'overrun':
        for (const [name] of this.#standing) this.#check(name)
        return
      case 'changed':
      case 'gone': {
        const name = this.#names.get(event.index)
        const wanted = name === undefined ? undefined : this.#standing.get(name)?.wanted
        if (name === undefined || wanted === undefined) return
        if (event.type === 'gone' || !isInForce(wanted, event.qdisc)) this.#check(name)
        return
      }
      case 'ingress-gone': {
        // ovs-vswitchd takes a policer away for a moment to set it anew.
        const name = this.#names.get(event.index)
        if (name !== undefined && (this.#standing.get(name)?.policedKbps ?? 0) > 0) this.#check(name, restoreIntervalMs)
        return
      }
      default:
        assertNever(event)
    }
  }

  /** Looks at a tap, and puts its QoS back if need be. */
  #check(name: string, afterMs = 0): void {
    if (this.#due.has(name)) return
    this.#due.add(name)
    void this.#restore(name, afterMs).catch((error: unknown) => {
      if (this.#grounds.lifetime.aborted) return
      this.#grounds.notice('warn', 'the QoS of a tap could not be put back', { tap: name, error })
    })
  }

  /** When the QoS of a tap may be put back again, by performance.now(). */
  #notBeforeMs(name: string): number {
    return (this.#restored.get(name)?.atMs ?? Number.NEGATIVE_INFINITY) + restoreIntervalMs
  }

  async #restore(name: string, afterMs: number): Promise<void> {
    const { kernel, lifetime, records, notice } = this.#grounds
    await sleep(Math.max(this.#notBeforeMs(name) - performance.now(), afterMs), lifetime)
    await this.exclusive(name, lifetime, async () => {
      this.#due.delete(name)
      const record = records.get(name)?.record
      const link = await kernel.getLink(name, lifetime)
      if (record === undefined || record.defunct || link === undefined) return
      const actual = await kernel.getQdisc(link.index, lifetime)
      if (await this.#isAsRecorded(link, record, actual, lifetime)) {
        this.#note(link, qdiscOf(record.qos, link.mtuBytes), record.policedKbps)
        return
      }
      // What was heard of while the last restoration was under way did not know of it.
      if (performance.now() < this.#notBeforeMs(name)) {
        this.#check(name)
        return
      }
      const times = this.timesRestored(name)
      this.#restored.set(name, { times, atMs: performance.now() })
      using scope = abortScope({ deadline: Date.now() + restoreWithinMs, parents: [lifetime] })
      await this.#putBoth(link, record, { signal: scope.signal, caller: 'upkeep' })
      this.#restored.set(name, { times: times + 1, atMs: performance.now() })
      this.#grounds.onRestored?.()
      notice('info', 'put the QoS of a tap back', { tap: name, found: actual?.kind ?? '' })
    })
  }
}

function isInForce(wanted: QdiscSpec | undefined, actual: Qdisc | undefined): boolean {
  if (wanted === undefined) return actual?.ours !== true
  return actual?.ours === true && isSameQdisc(actual.spec, wanted)
}
