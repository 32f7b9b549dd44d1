import type { Qdisc, QdiscSpec } from '../kernel/index.js'
import { noQos, type Qos } from './qos-parse.js'

/** How long a packet may wait for a tbf's tokens before it is dropped. */
const tbfLatencyMs = 20

/** A tbf refills its bucket with the kernel's timer; the slowest that Linux is built with. */
const slowestHz = 100

/** An Ethernet header and two VLAN tags, which a qdisc counts too. */
const headerBytes = 14 + 2 * 4

/** A qdisc of its own knows a probability as a fraction of this. */
const certain = 0xffff_ffff

/** How long a packet may wait for its turn in a netem with a rate: a router's buffer, by the rule of thumb of 100 ms. */
const netemQueueMs = 100
/** TCP's first window (RFC 6928 §2) must find room, however slow the link. */
const minNetemQueuePackets = 10
/** The mean of a simple mix of 7 packets of 40 bytes to 4 of 576 and 1 of 1500: what is on its way is not all large. */
const meanPacketBytes = 340
/** What tc gives a netem that is not told. */
const plainNetemQueuePackets = 1_000
/** What a link without a rate of its own is taken to carry: 10 Gbit/s in packets of 1,000 bytes. */
const unlimitedPacketsPerSecond = 1.25e6
/** A bound on the memory that one link may hold. */
const maxNetemLimitPackets = 100_000

/** The qdisc that does it on a device with this MTU: tbf when only a rate is asked, else netem; undefined: none. */
export function qdiscOf(qos: Qos, mtuBytes: number): QdiscSpec | undefined {
  const bytesPerSecond = Math.floor(qos.bitsPerSecond / 8)
  const { bitsPerSecond: _, ...others } = qos
  if (Object.values(others).some(value => value > 0)) return netemOf(qos, bytesPerSecond, mtuBytes)
  return bytesPerSecond > 0 ? tbfOf(bytesPerSecond, mtuBytes) : undefined
}

function tbfOf(bytesPerSecond: number, mtuBytes: number): QdiscSpec {
  const burstBytes = Math.max(Math.ceil(bytesPerSecond / slowestHz), mtuBytes + headerBytes)
  const limitBytes = Math.ceil((bytesPerSecond * tbfLatencyMs) / 1e3) + burstBytes
  return { kind: 'tbf', bytesPerSecond, burstBytes, limitBytes }
}

function netemOf(qos: Qos, bytesPerSecond: number, mtuBytes: number): QdiscSpec {
  const { delayNs, jitterNs } = qos
  return {
    kind: 'netem',
    bytesPerSecond,
    limitPackets: netemLimitPackets(bytesPerSecond, delayNs + jitterNs, mtuBytes + headerBytes),
    delayNs,
    jitterNs,
    loss: fractionOf(qos.lossPercent),
    duplicate: fractionOf(qos.duplicatePercent),
    corrupt: fractionOf(qos.corruptPercent),
    reorder: fractionOf(qos.reorderPercent),
  }
}

/**
 * netem counts packets, and one queue holds what is on its way and what waits for its turn. The first must fit, or a delay
 * would be a limit too: with tc's 1,000 packets, 50 ms would be 240 Mbit/s. The second must not be long, or a slow link
 * would be late by seconds: 1,000 packets are 2.4 s at 5 Mbit/s.
 */
function netemLimitPackets(bytesPerSecond: number, delayNs: number, frameBytes: number): number {
  const isLimited = bytesPerSecond > 0
  const packetsPerSecond = isLimited ? bytesPerSecond / meanPacketBytes : unlimitedPacketsPerSecond
  const queueBytes = (bytesPerSecond * netemQueueMs) / 1e3
  const waiting = isLimited
    ? Math.max(Math.ceil(queueBytes / frameBytes), minNetemQueuePackets)
    : plainNetemQueuePackets
  return Math.min(Math.ceil((packetsPerSecond * delayNs) / 1e9) + waiting, maxNetemLimitPackets)
}

/** What a qdisc does, in our terms. */
export function qosOf(spec: QdiscSpec): Qos {
  const bitsPerSecond = spec.bytesPerSecond * 8
  if (spec.kind === 'tbf') return { ...noQos, bitsPerSecond }
  const { delayNs, jitterNs } = spec
  return {
    bitsPerSecond,
    delayNs,
    jitterNs,
    lossPercent: percentOf(spec.loss),
    duplicatePercent: percentOf(spec.duplicate),
    corruptPercent: percentOf(spec.corrupt),
    reorderPercent: percentOf(spec.reorder),
  }
}

function fractionOf(percent: number): number {
  return Math.round((percent / 100) * certain)
}

function percentOf(fraction: number): number {
  return Number(((fraction / certain) * 100).toFixed(7))
}

/** Whether a device has this root qdisc from us, as we set it; undefined: whether it has none from us. */
export function isInForce(wanted: QdiscSpec | undefined, actual: Qdisc | undefined): boolean {
  if (wanted === undefined) return actual?.ours !== true
  return actual?.ours === true && !actual.hasMore && isSameQdisc(actual.spec, wanted)
}

/**
 * Whether a qdisc of ours may have what the kernel does not show: how a netem distributes its jitter. Where somebody else is
 * said to have changed it, it may. Before Linux 6.8 a mere look (RTM_GETQDISC without a dump, unlike tc's) is said to be a change.
 */
export function mayHideMore({ ours, spec }: Qdisc): boolean {
  return ours && spec?.kind === 'netem' && spec.jitterNs > 0
}

/** Whether two qdiscs do the same. */
export function isSameQdisc(a: QdiscSpec | undefined, b: QdiscSpec | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  if (a.kind === 'tbf' || b.kind === 'tbf') {
    if (a.kind !== 'tbf' || b.kind !== 'tbf') return false
    return a.bytesPerSecond === b.bytesPerSecond && a.limitBytes === b.limitBytes && isSameBurst(a, b)
  }
  const { kind: _, ...fields } = a
  const other: Readonly<Record<string, unknown>> = { ...b }
  return Object.entries(fields).every(([name, value]) => other[name] === value)
}

/** The kernel keeps a burst as a time, which it rounds, and of which it shows 32 bits in ticks of 64 ns. */
function isSameBurst(a: Burst, b: Burst): boolean {
  const bytesPerTick = (a.bytesPerSecond * 64) / 1e9
  const shownBytes = bytesPerTick * 2 ** 32
  const apartBytes = Math.abs(a.burstBytes - b.burstBytes) % shownBytes
  return Math.min(apartBytes, shownBytes - apartBytes) <= 2 + bytesPerTick * 2
}

type Burst = Extract<QdiscSpec, { kind: 'tbf' }>
