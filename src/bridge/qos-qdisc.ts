import type { QdiscSpec } from '../kernel/index.js'
import { noQos, type Qos } from './qos-parse.js'

/** How long a packet may wait for a tbf's tokens before it is dropped. */
const tbfLatencyMs = 20

/** A tbf refills its bucket with the kernel's timer; the slowest that Linux is built with. */
const slowestHz = 100

/** An Ethernet header and two VLAN tags, which a qdisc counts too. */
const headerBytes = 14 + 2 * 4

/** A qdisc of its own knows a probability as a fraction of this. */
const certain = 0xffff_ffff

/** What tc gives a netem that is not told. */
const netemLimitPackets = 1_000
/** A bound on the memory that one link may hold. */
const maxNetemLimitPackets = 100_000
/** What a link without a rate of its own is taken to carry. */
const unlimitedBytesPerSecond = 10e9 / 8

/** The qdisc that does it on a device with this MTU: tbf when only a rate is asked, else netem; undefined: none. */
export function qdiscOf(qos: Qos, mtuBytes: number): QdiscSpec | undefined {
  const bytesPerSecond = Math.floor(qos.bitsPerSecond / 8)
  const { bitsPerSecond: _, ...others } = qos
  if (Object.values(others).some(value => value > 0)) return netemOf(qos, bytesPerSecond)
  return bytesPerSecond > 0 ? tbfOf(bytesPerSecond, mtuBytes) : undefined
}

function tbfOf(bytesPerSecond: number, mtuBytes: number): QdiscSpec {
  const burstBytes = Math.max(Math.ceil(bytesPerSecond / slowestHz), mtuBytes + headerBytes)
  const limitBytes = Math.ceil((bytesPerSecond * tbfLatencyMs) / 1e3) + burstBytes
  return { kind: 'tbf', bytesPerSecond, burstBytes, limitBytes }
}

/** What is on its way takes its place in netem's queue: with tc's limit 50 ms of delay would be a limit of 240 Mbit/s too. */
function netemOf(qos: Qos, bytesPerSecond: number): QdiscSpec {
  const { delayNs, jitterNs } = qos
  const flightBytes = ((bytesPerSecond || unlimitedBytesPerSecond) * (delayNs + jitterNs)) / 1e9
  return {
    kind: 'netem',
    bytesPerSecond,
    limitPackets: Math.min(netemLimitPackets + Math.ceil(flightBytes / 1e3), maxNetemLimitPackets),
    delayNs,
    jitterNs,
    loss: fractionOf(qos.lossPercent),
    duplicate: fractionOf(qos.duplicatePercent),
    corrupt: fractionOf(qos.corruptPercent),
    reorder: fractionOf(qos.reorderPercent),
  }
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

/** Whether two qdiscs do the same. The kernel keeps a tbf's burst as a time, so that it comes back only nearly. */
export function isSameQdisc(a: QdiscSpec | undefined, b: QdiscSpec | undefined): boolean {
  if (a === undefined || b === undefined) return a === b
  if (a.kind === 'tbf' || b.kind === 'tbf') {
    return (
      a.kind === 'tbf' && b.kind === 'tbf' && a.bytesPerSecond === b.bytesPerSecond && a.limitBytes === b.limitBytes
    )
  }
  const { kind: _, ...fields } = a
  const other: Readonly<Record<string, unknown>> = { ...b }
  return Object.entries(fields).every(([name, value]) => other[name] === value)
}
