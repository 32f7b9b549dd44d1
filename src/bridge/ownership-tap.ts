import type { Parsed } from '../lib/parsed.js'
import { formatAddresses, parseAddresses, type SeenAddress } from './address-list.js'
import { type CountedBefore, formatCounted, parseCounted } from './counted.js'
import type { BridgeName, MacAddress, MtuBytes, NetnsReference, PortName, VlanId } from './names.js'
import {
  parseBridgeName,
  parseMacAddress,
  parseMtu,
  parseNetns,
  parsePortName,
  parseVlanId,
  untagged,
} from './names.js'
import {
  addressesKey,
  type ExternalIds,
  format,
  formatKey,
  idKey,
  instanceKey,
  prefix,
  stateKey,
  tapKey,
} from './ownership-keys.js'
import { formatQos, noQos, parseQosField, type Qos, qosFields, qosGrammar } from './qos-parse.js'

/** What stands behind a tap, with what only that kind has. */
export type TapBacking =
  | { readonly kind: 'tuntap'; readonly ownerUid: number | undefined; readonly multiQueue: boolean }
  | { readonly kind: 'container'; readonly netns: NetnsReference; readonly vethIndex: number }
  | { readonly kind: 'host' }
  | { readonly kind: 'adopted' }

/** Whether we make the device; that of a host tap is Open vSwitch's making. */
export function isDeviceMade({ kind }: TapBacking): boolean {
  return kind === 'tuntap' || kind === 'container'
}

/** What a tap is meant to be. */
export interface TapRecord {
  readonly name: PortName
  /** Random, new with each making: tells a tap from a later one of the same name. */
  readonly id: string
  /** undefined: detached. */
  readonly bridge: BridgeName | undefined
  readonly vlan: VlanId
  readonly mac: MacAddress | undefined
  readonly mtu: MtuBytes | undefined
  readonly backing: TapBacking
  /** Outer tag of a dot1q-tunnel port. */
  readonly qinqOuterVlan: VlanId | undefined
  /** Towards the endpoint, by the device's qdisc. */
  readonly qos: Qos
  /** Limit on what comes from the endpoint, by ovs-vswitchd's policing; 0: none. */
  readonly policedKbps: number
  /** Of devices before the present one; undefined: it is the first. */
  readonly counted?: CountedBefore | undefined
  /** Destroyed; port and device are on their way out. */
  readonly defunct: boolean
  /** Seen behind it, as they were last written down; the latest first. */
  readonly addresses: readonly SeenAddress[]
}

export function writeTapRecord(instance: string, record: TapRecord): Map<string, string> {
  const ids = new Map([
    [instanceKey, instance],
    [formatKey, format],
    [tapKey, record.name],
    [idKey, record.id],
    [`${prefix}kind`, record.backing.kind],
    [`${prefix}vlan`, String(record.vlan)],
  ])
  const set = (key: string, value: string | number | undefined) => {
    if (value !== undefined) ids.set(prefix + key, String(value))
  }
  set('bridge', record.bridge)
  set('mac', record.mac)
  set('mtu', record.mtu)
  set('qinq-outer-vlan', record.qinqOuterVlan)
  set('counted', record.counted && formatCounted(record.counted))
  for (const [field, words] of Object.entries(formatQos(record.qos))) set(`qos-${field}`, words)
  if (record.policedKbps > 0) set('policed-kbps', record.policedKbps)
  if (record.backing.kind === 'tuntap') {
    set('owner-uid', record.backing.ownerUid)
    if (record.backing.multiQueue) set('multi-queue', 'true')
  }
  if (record.backing.kind === 'container') {
    set('netns', record.backing.netns)
    set('veth-index', record.backing.vethIndex)
  }
  if (record.defunct) ids.set(stateKey, 'defunct')
  if (record.addresses.length > 0) ids.set(addressesKey, formatAddresses(record.addresses))
  return ids
}

/** Keys that {@link writeTapRecord} leaves out of some records. */
const optionalKeys = [
  ...['bridge', 'mac', 'mtu', 'qinq-outer-vlan', 'counted', 'policed-kbps', 'owner-uid', 'multi-queue', 'netns'],
  ...['veth-index', 'state', 'addresses', ...qosFields.map(field => `qos-${field}`)],
].map(key => prefix + key)

/** Changes to a record's keys (undefined: removed) that make it this one. Those that only a later version knows stay. */
export function tapRecordMarks(instance: string, record: TapRecord): Map<string, string | undefined> {
  return new Map([...optionalKeys.map(key => [key, undefined] as const), ...writeTapRecord(instance, record)])
}

/** Changes to a record's keys (undefined: removed) that write down its addresses. */
export function addressMark(addresses: readonly SeenAddress[]): Map<string, string | undefined> {
  return new Map([[addressesKey, addresses.length === 0 ? undefined : formatAddresses(addresses)]])
}

/** Column changes that keep what a tap's former devices had counted. */
export function countedMark(counted: CountedBefore): Map<string, string> {
  return new Map([[`${prefix}counted`, formatCounted(counted)]])
}

/** Column changes that mark a tap defunct. */
export function defunctMark(): Map<string, string> {
  return new Map([[stateKey, 'defunct']])
}

/** Name of the tap that a QoS row of `instance` records; undefined: the row is not such a record. */
export function recordedTap(instance: string, ids: ExternalIds): string | undefined {
  return ids.get(instanceKey) === instance ? ids.get(tapKey) : undefined
}

/** Reads a record back; undefined when somebody has damaged it beyond use. */
export function readTapRecord(ids: ExternalIds): TapRecord | undefined {
  const text = (key: string) => ids.get(prefix + key)
  const name = parsePortName(text('tap') ?? '')
  const backing = readBacking(text)
  if (!name.ok || backing === undefined) return undefined
  const counted = parseCounted(text('counted') ?? '')
  const optional = <T>(value: string | undefined, parse: (text: string) => Parsed<T>): T | undefined => {
    if (value === undefined) return undefined
    const result = parse(value)
    return result.ok ? result.value : undefined
  }
  return {
    name: name.value,
    id: ids.get(idKey) ?? '',
    bridge: optional(text('bridge'), parseBridgeName),
    vlan: optional(text('vlan'), t => parseVlanId(Number(t))) ?? untagged,
    mac: optional(text('mac'), parseMacAddress),
    mtu: optional(text('mtu'), t => parseMtu(Number(t))),
    backing,
    qinqOuterVlan: optional(text('qinq-outer-vlan'), t => parseVlanId(Number(t))),
    qos: readQos(text),
    policedKbps: wholeNumber(text('policed-kbps')) ?? 0,
    ...(counted !== undefined && { counted }),
    defunct: ids.get(stateKey) === 'defunct',
    addresses: parseAddresses(ids.get(addressesKey) ?? ''),
  }
}

function wholeNumber(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined
}

function readQos(text: (key: string) => string | undefined): Qos {
  const qos: { -readonly [K in keyof Qos]: number } = { ...noQos }
  for (const field of qosFields) {
    const value = parseQosField(field, text(`qos-${field}`) ?? '')
    if (value.ok) qos[qosGrammar[field].key] = value.value
  }
  return qos
}

function readBacking(text: (key: string) => string | undefined): TapBacking | undefined {
  switch (text('kind')) {
    case 'tuntap':
      return {
        kind: 'tuntap',
        ownerUid: wholeNumber(text('owner-uid')),
        multiQueue: text('multi-queue') === 'true',
      }
    case 'container': {
      const netns = parseNetns(text('netns') ?? '')
      return netns.ok
        ? { kind: 'container', netns: netns.value, vethIndex: wholeNumber(text('veth-index')) ?? 0 }
        : undefined
    }
    case 'host':
      return { kind: 'host' }
    case 'adopted':
      return { kind: 'adopted' }
    default:
      return undefined
  }
}
