import type { Link, Qdisc, QdiscSpec } from '../kernel/index.js'
import type { Call } from './call.js'
import type { TapRecord } from './ownership-tap.js'
import { ensurePoliced, isPoliced, type PolicingGrounds } from './policing.js'
import type { Qos } from './qos-parse.js'
import { isInForce, qdiscOf } from './qos-qdisc.js'
import { noDevice, type Standing, Standings } from './qos-standing.js'
import type { Direction } from './restorations.js'

/** Until there is a device, which may have another. */
const usualMtuBytes = 1_500

/** Has the kernel do to the devices of taps what is asked, and knows of each what is to be in force on it. */
export class QosForce {
  readonly #grounds: PolicingGrounds
  readonly #onStanding: () => void
  readonly #standing = new Standings()
  /** Devices of which somebody else may have changed our netem in a way that the kernel does not show. */
  readonly #tampered = new Set<number>()

  /** `onStanding` is told whenever something is to be in force, before it is. */
  constructor(grounds: PolicingGrounds, onStanding: () => void) {
    this.#grounds = grounds
    this.#onStanding = onStanding
  }

  /** What is to be in force on a tap's device; undefined: nothing. */
  standing(name: string): Standing | undefined {
    return this.#standing.get(name)
  }

  /** Of the taps that have a standing. */
  names(): Iterable<string> {
    return this.#standing.names()
  }

  /** The tap of a device, and what is to be in force on it. */
  onDevice(index: number): { readonly name: string; readonly standing: Standing } | undefined {
    const name = this.#standing.nameOf(index)
    const standing = name === undefined ? undefined : this.#standing.get(name)
    return name === undefined || standing === undefined ? undefined : { name, standing }
  }

  /** The qdisc of a device is made anew the next time, whatever the kernel shows of it. */
  distrust(index: number): void {
    this.#tampered.add(index)
  }

  forget(name: string): void {
    this.#tampered.delete(this.#standing.get(name)?.index ?? noDevice)
    this.#standing.set(name, undefined)
  }

  /** Makes the kernel do `qos`. Errors: those of `setQdisc`, nothing is changed then. */
  async put(link: Link, qos: Qos, signal: AbortSignal, afresh = this.#tampered.has(link.index)): Promise<void> {
    const { kernel } = this.#grounds
    const wanted = qdiscOf(qos, link.mtuBytes)
    const policedKbps = this.#standing.get(link.name)?.policedKbps ?? 0
    await this.#noting(link, wanted, policedKbps, async () => {
      if (wanted === undefined) await kernel.removeQdisc(link.index, signal)
      else await kernel.setQdisc(link.index, wanted, afresh, signal)
    })
    if (afresh || wanted === undefined) this.#tampered.delete(link.index)
  }

  /** Only notes it, until there is a device of this name. */
  putLater(name: string, qos: Qos, policedKbps: number): void {
    this.#note({ name, index: noDevice, mtuBytes: usualMtuBytes }, qdiscOf(qos, usualMtuBytes), policedKbps)
  }

  /**
   * Has what comes from a tap policed as its record says; ovs-vswitchd does so on a bridge, and leaves a device that is
   * detached as it was. Errors: those of `ensurePoliced`.
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

  /** Takes our qdisc, and the policer that the record asked for, off a device that stays behind. */
  async release({ name, policedKbps }: TapRecord, signal: AbortSignal): Promise<void> {
    const { kernel } = this.#grounds
    const link = await kernel.getLink(name, signal)
    if (link !== undefined) {
      await kernel.removeQdisc(link.index, signal)
      if (policedKbps > 0) await kernel.removeIngressQdisc(link.index, signal)
    }
    this.forget(name)
  }

  /** Whether a direction is as the record says. What a detached tap sends goes nowhere. */
  async isAsRecorded(
    direction: Direction,
    link: Link,
    { qos, policedKbps, bridge }: TapRecord,
    actual: Qdisc | undefined,
    signal: AbortSignal,
  ): Promise<boolean> {
    if (direction === 'toEndpoint')
      return isInForce(qdiscOf(qos, link.mtuBytes), actual) && !this.#tampered.has(link.index)
    if (policedKbps === 0 || bridge === undefined) return true
    return await isPoliced(this.#grounds.kernel, link.index, policedKbps, signal)
  }

  /** Notes that both directions are to be as the record says. */
  note(link: Link, { qos, policedKbps }: TapRecord): void {
    this.#note(link, qdiscOf(qos, link.mtuBytes), policedKbps)
  }

  /** As {@link note}, for one direction. */
  noteOne(direction: Direction, link: Link, { qos, policedKbps }: TapRecord): void {
    const former = this.#standing.get(link.name)
    if (direction === 'toEndpoint') this.#note(link, qdiscOf(qos, link.mtuBytes), former?.policedKbps ?? 0)
    else this.#note(link, former?.wanted, policedKbps)
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
      this.#standing.set(link.name, former)
      throw error
    }
  }

  #note(
    { name, ...device }: Pick<Link, 'name' | 'index' | 'mtuBytes'>,
    wanted: QdiscSpec | undefined,
    policedKbps: number,
  ) {
    const { index, mtuBytes } = device
    this.#standing.set(name, { index, mtuBytes, wanted, policedKbps })
    if (this.#standing.get(name) !== undefined) this.#onStanding()
  }
}
