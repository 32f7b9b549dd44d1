import { littleEndian, viewOf } from '../../lib/byte-order.js'
import type { Qdisc, QdiscSpec } from '../link.js'
import {
  type Attribute,
  type Attributes,
  bytes,
  decodeAttributes,
  encodeAttributes,
  readText,
  text,
  u32,
} from './attribute.js'
import { concatenate } from './message.js'
import { afterTcHeader, decodeTcHeader, encodeTcHeader, TC_H_ROOT, TCA_KIND, TCA_OPTIONS } from './tc-message.js'

// rtnetlink(7), <linux/rtnetlink.h>
export const RTM_NEWQDISC = 36
export const RTM_DELQDISC = 37
export const RTM_GETQDISC = 38
export const RTNLGRP_TC = 4

// <linux/pkt_sched.h>
const TC_LINKLAYER_ETHERNET = 1
const TCA_TBF_PARMS = 1
const TCA_TBF_RATE64 = 4
const TCA_TBF_PRATE64 = 5
const TCA_TBF_BURST = 6
const TCA_NETEM_CORR = 1
const TCA_NETEM_REORDER = 3
const TCA_NETEM_CORRUPT = 4
const TCA_NETEM_LOSS = 5
const TCA_NETEM_RATE = 6
const TCA_NETEM_ECN = 7
const TCA_NETEM_RATE64 = 8
const TCA_NETEM_LATENCY64 = 10
const TCA_NETEM_JITTER64 = 11
const TCA_NETEM_SLOT = 12

const tbfQoptBytes = 36
const netemQoptBytes = 24

/** The scheduler's clock has ticks of 64 ns (PSCHED_SHIFT in <net/pkt_sched.h>; /proc/net/psched). */
const tickNs = 64

const maxU32 = 0xffff_ffff

/** Handles tell our root qdiscs from everybody else's: one for each kind, since a handle cannot change its kind. */
export const ourHandles: Readonly<Record<QdiscSpec['kind'], number>> = { tbf: 0x0b51_0000, netem: 0x0b52_0000 }

/** RTM_NEWQDISC of a device's root: with NLM_F_CREATE | NLM_F_REPLACE whatever was there is replaced at once. */
export function encodeQdisc(index: number, spec: QdiscSpec): Uint8Array {
  const options = spec.kind === 'tbf' ? tbfOptions(spec) : netemOptions(spec)
  return concatenate(
    encodeQdiscQuery(index, ourHandles[spec.kind]),
    encodeAttributes([text(TCA_KIND, spec.kind), bytes(TCA_OPTIONS, options)]),
  )
}

/** RTM_DELQDISC of the root, if it has this handle, or RTM_GETQDISC of the root, whatever it is, with handle 0. */
export function encodeQdiscQuery(index: number, handle = 0): Uint8Array {
  return encodeTcHeader({ index, handle, parent: TC_H_ROOT })
}

/** RTM_NEWQDISC of the root without the options that its kind needs. */
export function encodeBareQdisc(index: number, kind: string): Uint8Array {
  return concatenate(encodeQdiscQuery(index), encodeAttributes([text(TCA_KIND, kind)]))
}

/** `struct tc_tbf_qopt`, and the exact burst beside it: the struct's `buffer` counts ticks. */
function tbfOptions({ bytesPerSecond, burstBytes, limitBytes }: Extract<QdiscSpec, { kind: 'tbf' }>): Uint8Array {
  const parms = new Uint8Array(tbfQoptBytes)
  const view = viewOf(parms)
  // Otherwise the kernel wants a table of transmission times from which to guess the link layer.
  view.setUint8(1, TC_LINKLAYER_ETHERNET)
  view.setUint32(8, Math.min(bytesPerSecond, maxU32), littleEndian)
  view.setUint32(24, limitBytes, littleEndian)
  view.setUint32(28, ticksOf((burstBytes / bytesPerSecond) * 1e9), littleEndian)
  return encodeAttributes([
    bytes(TCA_TBF_PARMS, parms),
    u32(TCA_TBF_BURST, burstBytes),
    ...rate64(TCA_TBF_RATE64, bytesPerSecond),
  ])
}

/** `struct tc_netem_qopt` and attributes after it. All are sent: what is left out of a change stays as it was. */
function netemOptions(spec: Extract<QdiscSpec, { kind: 'netem' }>): Uint8Array {
  const qopt = words([
    ticksOf(spec.delayNs),
    spec.limitPackets,
    spec.loss,
    spec.reorder > 0 ? 1 : 0,
    spec.duplicate,
    ticksOf(spec.jitterNs),
  ])
  const { bytesPerSecond } = spec
  return concatenate(
    qopt,
    encodeAttributes([
      s64(TCA_NETEM_LATENCY64, spec.delayNs),
      s64(TCA_NETEM_JITTER64, spec.jitterNs),
      bytes(TCA_NETEM_CORR, words([0, 0, 0])),
      bytes(TCA_NETEM_REORDER, words([spec.reorder, 0])),
      bytes(TCA_NETEM_CORRUPT, words([spec.corrupt, 0])),
      ...rate64(TCA_NETEM_RATE64, bytesPerSecond),
      bytes(TCA_NETEM_RATE, words([Math.min(bytesPerSecond, maxU32), 0, 0, 0])),
    ]),
  )
}

/** Reads RTM_NEWQDISC and RTM_DELQDISC of a root; undefined for the qdiscs below one, and those of the other direction. */
export function decodeRootQdisc(payload: Uint8Array): { readonly index: number; readonly qdisc: Qdisc } | undefined {
  const { index, handle, parent } = decodeTcHeader(payload)
  if (parent !== TC_H_ROOT) return undefined
  const attributes = decodeAttributes(afterTcHeader(payload))
  const kind = readText(attributes, TCA_KIND) ?? ''
  const ours = Object.entries(ourHandles).some(([name, own]) => name === kind && own === handle)
  const settings = decodeSettings(kind, attributes.get(TCA_OPTIONS)) ?? { hasMore: false }
  return { index, qdisc: { kind, ours, isDefault: handle === 0, ...settings } }
}

/** What we can say of a qdisc, and whether there is more to it. */
type Settings = Required<Pick<Qdisc, 'spec' | 'hasMore'>>

function decodeSettings(kind: string, options: Uint8Array | undefined): Settings | undefined {
  if (options === undefined) return undefined
  if (kind === 'tbf') return decodeTbf(decodeAttributes(options))
  if (kind === 'netem' && options.length >= netemQoptBytes) {
    return decodeNetem(viewOf(options), decodeAttributes(options.subarray(netemQoptBytes)))
  }
  return undefined
}

function decodeTbf(attributes: Attributes): Settings | undefined {
  const parms = attributes.get(TCA_TBF_PARMS)
  if (parms === undefined || parms.length < tbfQoptBytes) return undefined
  const view = viewOf(parms)
  const bytesPerSecond = readS64(attributes, TCA_TBF_RATE64) ?? view.getUint32(8, littleEndian)
  const bufferNs = view.getUint32(28, littleEndian) * tickNs
  const spec = {
    kind: 'tbf' as const,
    bytesPerSecond,
    burstBytes: Math.round((bytesPerSecond * bufferNs) / 1e9),
    limitBytes: view.getUint32(24, littleEndian),
  }
  // `struct tc_ratespec`: what a frame is taken to be longer by, or at least; and the rate of the one for the peak.
  const lengths = [view.getUint16(2, littleEndian), view.getUint16(6, littleEndian)]
  const hasOwnLengths = view.getUint8(1) !== TC_LINKLAYER_ETHERNET || lengths.some(bytes => bytes !== 0)
  const hasPeak = view.getUint32(20, littleEndian) !== 0 || attributes.has(TCA_TBF_PRATE64)
  return { spec, hasMore: hasOwnLengths || hasPeak }
}

function decodeNetem(qopt: DataView, attributes: Attributes): Settings {
  const word = (at: number) => qopt.getUint32(at * 4, littleEndian)
  const wordsOf = (type: number) => readWords(attributes.get(type))
  const [reorder = 0, ...reorderMore] = wordsOf(TCA_NETEM_REORDER)
  const [corrupt = 0, ...corruptMore] = wordsOf(TCA_NETEM_CORRUPT)
  const [rate = 0, ...rateMore] = wordsOf(TCA_NETEM_RATE)
  const more = [...wordsOf(TCA_NETEM_CORR), ...reorderMore, ...corruptMore, ...rateMore, ...wordsOf(TCA_NETEM_ECN)]
  const gap = word(3)
  const hasMore =
    gap !== (reorder > 0 ? 1 : 0) ||
    more.some(value => value !== 0) ||
    // The kernel shows these only where they are set.
    attributes.has(TCA_NETEM_LOSS) ||
    attributes.has(TCA_NETEM_SLOT)
  const spec = {
    kind: 'netem' as const,
    delayNs: readS64(attributes, TCA_NETEM_LATENCY64) ?? word(0) * tickNs,
    limitPackets: word(1),
    loss: word(2),
    reorder,
    duplicate: word(4),
    jitterNs: readS64(attributes, TCA_NETEM_JITTER64) ?? word(5) * tickNs,
    corrupt,
    bytesPerSecond: readS64(attributes, TCA_NETEM_RATE64) ?? rate,
  }
  return { spec, hasMore }
}

function readWords(value: Uint8Array | undefined): number[] {
  const view = viewOf(value ?? new Uint8Array())
  return Array.from({ length: Math.floor(view.byteLength / 4) }, (_, i) => view.getUint32(i * 4, littleEndian))
}

function ticksOf(durationNs: number): number {
  return Math.min(Math.round(durationNs / tickNs), maxU32)
}

function words(values: readonly number[]): Uint8Array {
  const out = new Uint8Array(values.length * 4)
  values.forEach((value, i) => viewOf(out).setUint32(i * 4, value, littleEndian))
  return out
}

function s64(type: number, value: number): Attribute {
  const out = new Uint8Array(8)
  viewOf(out).setBigInt64(0, BigInt(value), littleEndian)
  return bytes(type, out)
}

function readS64(attributes: Attributes, type: number): number | undefined {
  const value = attributes.get(type)
  return value === undefined ? undefined : Number(viewOf(value).getBigInt64(0, littleEndian))
}

/** A rate goes into 32 bits where it fits; beyond, the 64-bit attribute counts. */
function rate64(type: number, bytesPerSecond: number): Attribute[] {
  return bytesPerSecond > maxU32 ? [s64(type, bytesPerSecond)] : []
}
