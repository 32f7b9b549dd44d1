import type { Kernel, Link, Qdisc, QdiscEvent, QdiscSpec } from '../kernel/index.js'
import { raceAbort, sleep } from '../lib/abort.js'
import { assertNever } from '../lib/assert-never.js'
import type { OvsClient, OvsRows } from './ovs.js'
import { recordedTap } from './ownership.js'
import { deviceNotFound } from './problem.js'
import type { Qos } from './qos-parse.js'
import { isSameQdisc, qdiscOf } from './qos-qdisc.js'
import type { TapRecords } from './tap-records.js'

/** What the upkeep works on. */
export interface UpkeepGrounds {
  readonly instance: string
  readonly kernel: Kernel
  readonly ovsdb: OvsClient
  readonly records: TapRecords
  readonly lifetime: AbortSignal
  readonly notice: (level: 'info' | 'warn', message: string, details: Readonly<Record<string, unknown>>) => void
}

/** A qdisc that we have set, on a device by its index. */
interface Standing {
  readonly index: number
  readonly mtuBytes: number
  readonly wanted: QdiscSpec
}

/** A tap's QoS is put back at most this often: whoever takes it away again and again is not answered blow for blow. */
const restoreIntervalMs = 1_000

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
    const former = this.#standing.get(link.name)
    this.#note(link, wanted)
    try {
      if (wanted === undefined) await kernel.removeQdisc(link.index, signal)
      else await kernel.setQdisc(link.index, wanted, signal)
    } catch (error) {
      if (former === undefined) this.#forget(link.name)
      else this.#keep(link.name, former)
      throw error
    }
  }

  /** Makes the kernel do what the tap's record says. Errors: `not-found` device, those of {@link put}. */
  async ensure(name: string, signal: AbortSignal): Promise<void> {
    if (!this.#concerns(name)) return
    await this.exclusive(name, signal, async () => {
      const record = this.#grounds.records.get(name)?.record
      if (record === undefined) return
      const link = await this.#grounds.kernel.getLink(name, signal)
      if (link === undefined) throw deviceNotFound(name)
      await this.put(link, record.qos, signal)
    })
  }

  /** Takes our qdisc off a device that stays behind. */
  async release(name: string, signal: AbortSignal): Promise<void> {
    await this.exclusive(name, signal, async () => {
      this.#forget(name)
      const link = await this.#grounds.kernel.getLink(name, signal)
      if (link !== undefined) await this.#grounds.kernel.removeQdisc(link.index, signal)
    })
  }

  /** Compares all taps with the kernel, for the start; answers with those whose QoS had to be set or taken away. */
  async reconcile(signal: AbortSignal): Promise<string[]> {
    const { kernel, records, notice } = this.#grounds
    const links = new Map((await kernel.listLinks(signal)).map(link => [link.name, link]))
    const qdiscs = await kernel.listQdiscs(signal)
    const changed: string[] = []
    for (const { record } of records.all()) {
      const { name, qos } = record
      const link = links.get(name)
      if (link === undefined || record.defunct || record.backing.kind === 'host') continue
      const wanted = qdiscOf(qos, link.mtuBytes)
      if (isInForce(wanted, qdiscs.get(link.index))) {
        this.#note(link, wanted)
        continue
      }
      try {
        await this.exclusive(name, signal, () => this.put(link, qos, signal))
        changed.push(name)
      } catch (error) {
        signal.throwIfAborted()
        notice('warn', 'the QoS of a tap could not be put back', { tap: name, error })
      }
    }
    return changed
  }

  #concerns(name: string): boolean {
    const record = this.#grounds.records.get(name)?.record
    return this.#standing.has(name) || (record !== undefined && Object.values(record.qos).some(value => value > 0))
  }

  #note({ name, index, mtuBytes }: Link, wanted: QdiscSpec | undefined): void {
    if (wanted === undefined) this.#forget(name)
    else this.#keep(name, { index, mtuBytes, wanted })
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
    if (standing === undefined || !isSameQdisc(wanted, standing.wanted)) this.#check(record.name)
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
      default:
        assertNever(event)
    }
  }

  /** Looks at a tap, and puts its QoS back if need be. */
  #check(name: string): void {
    if (this.#due.has(name)) return
    this.#due.add(name)
    void this.#restore(name).catch((error: unknown) => {
      if (this.#grounds.lifetime.aborted) return
      this.#grounds.notice('warn', 'the QoS of a tap could not be put back', { tap: name, error })
    })
  }

  async #restore(name: string): Promise<void> {
    const { kernel, lifetime, records, notice } = this.#grounds
    const waitMs = (this.#restored.get(name)?.atMs ?? Number.NEGATIVE_INFINITY) + restoreIntervalMs - performance.now()
    if (waitMs > 0) await sleep(waitMs, lifetime)
    await this.exclusive(name, lifetime, async () => {
      this.#due.delete(name)
      const record = records.get(name)?.record
      const link = await kernel.getLink(name, lifetime)
      if (record === undefined || record.defunct || link === undefined) return
      const actual = await kernel.getQdisc(link.index, lifetime)
      const wanted = qdiscOf(record.qos, link.mtuBytes)
      if (isInForce(wanted, actual)) {
        this.#note(link, wanted)
        return
      }
      const times = this.timesRestored(name)
      this.#restored.set(name, { times, atMs: performance.now() })
      await this.put(link, record.qos, lifetime)
      this.#restored.set(name, { times: times + 1, atMs: performance.now() })
      notice('info', 'put the QoS of a tap back', { tap: name, found: actual?.kind ?? '' })
    })
  }
}

function isInForce(wanted: QdiscSpec | undefined, actual: Qdisc | undefined): boolean {
  if (wanted === undefined) return actual?.ours !== true
  return actual?.ours === true && isSameQdisc(actual.spec, wanted)
}
