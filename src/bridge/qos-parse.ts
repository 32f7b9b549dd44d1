import { type Parsed, parsed, refused } from '../lib/parsed.js'

/** How a link treats what goes one way over it; 0 stands for “not at all”. */
export interface Qos {
  readonly bitsPerSecond: number
  readonly lossPercent: number
  readonly delayNs: number
  /** Spread of the delay, uniform. */
  readonly jitterNs: number
  readonly duplicatePercent: number
  readonly corruptPercent: number
  readonly reorderPercent: number
}

/** What to change; what is absent stays, 0 takes away. */
export type QosChange = Partial<Qos>

export const noQos: Qos = {
  bitsPerSecond: 0,
  lossPercent: 0,
  delayNs: 0,
  jitterNs: 0,
  duplicatePercent: 0,
  corruptPercent: 0,
  reorderPercent: 0,
}

/** Whether nothing is asked for. */
export function isPlain(qos: Qos): boolean {
  return Object.values(qos).every(value => value === 0)
}

/** The fields' names, as tc and the wire spell them. */
export type QosField = 'rate' | 'loss' | 'delay' | 'jitter' | 'duplicate' | 'corrupt' | 'reorder'

/** One value in words, and back. */
interface Grammar {
  readonly key: keyof Qos
  readonly parse: (text: string) => Parsed<number>
  /** What `parse` reads as the same value. */
  readonly format: (value: number) => string
}

/** The grammar of tc(8), PARAMETERS, as far as it is taken: a field's value and its unit. */
export const qosGrammar: Readonly<Record<QosField, Grammar>> = {
  rate: { key: 'bitsPerSecond', parse: parseRate, format: formatRate },
  loss: { key: 'lossPercent', parse: parsePercent, format: formatPercent },
  // `struct tc_netem_qopt` counts ticks of 64 ns in 32 bits.
  delay: { key: 'delayNs', parse: text => parseTime(text, 64 * 0xffff_ffff), format: formatTime },
  // netem draws from a signed 32-bit range of nanoseconds (tabledist in net/sched/sch_netem.c).
  jitter: { key: 'jitterNs', parse: text => parseTime(text, 0x7fff_ffff), format: formatTime },
  duplicate: { key: 'duplicatePercent', parse: parsePercent, format: formatPercent },
  corrupt: { key: 'corruptPercent', parse: parsePercent, format: formatPercent },
  reorder: { key: 'reorderPercent', parse: parsePercent, format: formatPercent },
}

export const qosFields: readonly QosField[] = ['rate', 'loss', 'delay', 'jitter', 'duplicate', 'corrupt', 'reorder']

/** A field's value; empty reads as 0. */
export function parseQosField(field: QosField, text: string): Parsed<number> {
  return text === '' ? parsed(0) : qosGrammar[field].parse(text)
}

/** The fields that are set, in words. */
export function formatQos(qos: Qos): Partial<Record<QosField, string>> {
  const words: Partial<Record<QosField, string>> = {}
  for (const field of qosFields) {
    const { key, format } = qosGrammar[field]
    if (qos[key] > 0) words[field] = format(qos[key])
  }
  return words
}

/** The fields that are set and make no sense without a delay, which is not. */
export function fieldsMissingDelay(qos: Qos): QosField[] {
  if (qos.delayNs > 0) return []
  return (['jitter', 'reorder'] as const).filter(field => qos[qosGrammar[field].key] > 0)
}

export const delayMissing = 'is nothing without a delay'

/** A number without sign or exponent, and the unit that follows it at once. Each character can be of one part only. */
const numberAndUnit = /^(\d+(?:\.\d*)?|\.\d+)([a-z%]*)$/i

function split(text: string): { readonly value: number; readonly unit: string } | undefined {
  const [, digits = '', unit = ''] = numberAndUnit.exec(text) ?? []
  return digits === '' ? undefined : { value: Number(digits), unit: unit.toLowerCase() }
}

const bitsPerRateUnit: ReadonlyMap<string, number> = new Map([
  ['kbit', 1e3],
  ['mbit', 1e6],
  ['gbit', 1e9],
])
const minBitsPerSecond = 1e3
const maxBitsPerSecond = 1e12

function parseRate(text: string): Parsed<number> {
  const read = split(text)
  const scale = read && bitsPerRateUnit.get(read.unit)
  if (read === undefined || scale === undefined)
    return refused(`is ${quoted(text)}, not a rate like 10mbit (kbit, mbit, gbit)`)
  const bitsPerSecond = inWholeBytes(Math.round(read.value * scale))
  if (bitsPerSecond < minBitsPerSecond) return refused(`is ${quoted(text)}, less than 1kbit`)
  if (bitsPerSecond > maxBitsPerSecond) return refused(`is ${quoted(text)}, more than 1000gbit`)
  return parsed(bitsPerSecond)
}

/** The kernel counts bytes a second; as tc does, the rest is cut off. */
function inWholeBytes(bitsPerSecond: number): number {
  return Math.floor(bitsPerSecond / 8) * 8
}

function formatRate(bitsPerSecond: number): string {
  if (bitsPerSecond % 1e9 === 0) return `${bitsPerSecond / 1e9}gbit`
  if (bitsPerSecond % 1e6 === 0) return `${bitsPerSecond / 1e6}mbit`
  return `${bitsPerSecond / 1e3}kbit`
}

const nsPerTimeUnit: ReadonlyMap<string, number> = new Map([
  ['s', 1e9],
  ['ms', 1e6],
  ['', 1e6],
  ['us', 1e3],
  ['ns', 1],
])

function parseTime(text: string, maxNs: number): Parsed<number> {
  const read = split(text)
  const scale = read && nsPerTimeUnit.get(read.unit)
  if (read === undefined || scale === undefined)
    return refused(`is ${quoted(text)}, not a time like 50ms (us, ms, s; bare: ms)`)
  const durationNs = Math.round(read.value * scale)
  if (durationNs === 0 && read.value > 0) return refused(`is ${quoted(text)}, less than 1ns`)
  if (durationNs > maxNs) return refused(`is ${quoted(text)}, more than netem's ${formatTime(maxNs)}`)
  return parsed(durationNs)
}

function formatTime(durationNs: number): string {
  if (durationNs % 1e9 === 0) return `${durationNs / 1e9}s`
  if (durationNs % 1e6 === 0) return `${durationNs / 1e6}ms`
  if (durationNs % 1e3 === 0) return `${durationNs / 1e3}us`
  return `${durationNs}ns`
}

/** A few of the kernel's units, of which 2^32 − 1 are 100%. */
const leastPercent = 1e-7
/** As many as a number near 100 has. */
const percentDecimals = 12

function parsePercent(text: string): Parsed<number> {
  const read = split(text)
  if (read === undefined || (read.unit !== '' && read.unit !== '%'))
    return refused(`is ${quoted(text)}, not a percentage like 0.5 or 0.5%`)
  if (read.value > 100) return refused(`is ${quoted(text)}, more than 100%`)
  const isTooSmall = read.value > 0 && read.value < leastPercent
  return isTooSmall
    ? refused(`is ${quoted(text)}, less than 0.0000001%`)
    : parsed(Number(read.value.toFixed(percentDecimals)))
}

function formatPercent(percent: number): string {
  return `${percent.toFixed(percentDecimals).replace(/\.?0+$/, '')}%`
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text)
}
