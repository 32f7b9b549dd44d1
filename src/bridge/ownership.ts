import { randomBytes } from 'node:crypto'
import type { Parsed } from '../lib/parsed.js'
import { parseWriterTarget, type WriterSpec, writerName } from '../netflow/index.js'
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
import { formatQos, noQos, parseQosField, type Qos, qosFields, qosGrammar } from './qos-parse.js'

/**
 * How OVSDB remembers what is ours. This file alone spells the keys of `external_ids`.
 *
 * - A managed bridge carries `ovs-bridged:instance`, and `ovs-bridged:pre-exist` when it was there before us.
 * - A port of ours carries `ovs-bridged:instance` and `ovs-bridged:role`; so does a mirror.
 * - The root row carries `ovs-bridged:<instance>:next-capture-id`.
 * - A tap's interface carries `attached-mac`, Open vSwitch's conventional key.
 * - A tap's intent stands in a QoS row of type `linux-noop`: a root row, it outlives the port while a tap is detached,
 *   and on the port it keeps ovs-vswitchd's hands off the device's qdiscs. A bond has such a row of its own; the rows of
 *   its members wait without a port.
 */
const prefix = 'ovs-bridged:'
const instanceKey = `${prefix}instance`
const formatKey = `${prefix}format`
const preExistKey = `${prefix}pre-exist`
const roleKey = `${prefix}role`
const tapKey = `${prefix}tap`
const idKey = `${prefix}id`
const stateKey = `${prefix}state`
const addressesKey = `${prefix}addresses`
const configPrefix = `${prefix}config:`
const writerPrefix = `${prefix}writer:`
const lastWriterKey = `${prefix}end-with-last-writer`

/** Version of the keys and their values. */
const format = '1'

export type ExternalIds = ReadonlyMap<string, string>

/** What a port of ours is for. */
export type PortRole = 'local' | 'tap' | 'bond' | 'capture'

/** What a mirror of ours is for. */
export type MirrorRole = 'mirror' | 'capture'

/** Marks of a bridge that was there before us. */
export function adoptedBridgeMarks(instance: string): Map<string, string> {
  return new Map([
    [instanceKey, instance],
    [formatKey, format],
    [preExistKey, 'true'],
  ])
}

/** Marks of a bridge or NetFlow that we make; `id` is random, and tells it from a later one. */
export function madeMarks(instance: string, id: string): Map<string, string> {
  return new Map([
    [instanceKey, instance],
    [formatKey, format],
    [idKey, id],
  ])
}

/** The random id of what carries these keys; undefined when it has none. */
export function idOf(ids: ExternalIds): string | undefined {
  return ids.get(idKey)
}

export function randomId(): string {
  return randomBytes(6).toString('hex')
}

/** What SetBridgeConfig set on the bridge that carries these keys: `stp_enable` or `other_config:hwaddr` to the value as given. */
export function configOf(ids: ExternalIds): Map<string, string> {
  const config = new Map<string, string>()
  for (const [key, value] of ids) if (key.startsWith(configPrefix)) config.set(key.slice(configPrefix.length), value)
  return config
}

/** Changes to a bridge's keys (undefined: removed) that make `config` of {@link configOf}. */
export function configMarks(ids: ExternalIds, config: ReadonlyMap<string, string>): Map<string, string | undefined> {
  const marks = new Map<string, string | undefined>()
  for (const name of configOf(ids).keys()) marks.set(configPrefix + name, undefined)
  for (const [name, value] of config) marks.set(configPrefix + name, value)
  return marks
}

/** Whether a key of `external_ids` is one that only we may write. */
export function isOurKey(key: string): boolean {
  return key.startsWith(prefix)
}

/** Keys that a bridge loses when we let go of it. */
export function ourKeys(ids: ExternalIds): string[] {
  return [...ids.keys()].filter(isOurKey)
}

export function portMarks(instance: string, role: PortRole): Map<string, string> {
  return new Map([
    [instanceKey, instance],
    [roleKey, role],
  ])
}

/** What a port of ours is for that leads out of the bridge and is no tap. */
export type UplinkRole = 'trunk' | 'tunnel'

/** Marks of an uplink's port; `id` is random, and tells it from a later one of its name. */
export function uplinkMarks(instance: string, role: UplinkRole, id: string): Map<string, string> {
  return new Map([
    [instanceKey, instance],
    [roleKey, role],
    [idKey, id],
  ])
}

/** The role of an uplink of this instance; undefined for every other port. */
export function uplinkRoleOf(instance: string, ids: ExternalIds): UplinkRole | undefined {
  const role = ids.get(instanceKey) === instance ? ids.get(roleKey) : undefined
  return role === 'trunk' || role === 'tunnel' ? role : undefined
}

/** Instance that owns the row; undefined: nobody of ours. */
export function ownerOf(ids: ExternalIds): string | undefined {
  return ids.get(instanceKey)
}

export function preExisted(ids: ExternalIds): boolean {
  return ids.get(preExistKey) === 'true'
}

export function roleOf(ids: ExternalIds): PortRole | undefined {
  const role = ids.get(roleKey)
  return role === 'local' || role === 'tap' || role === 'bond' || role === 'capture' ? role : undefined
}

/** Marks of a mirror; `id` is random, and tells it from a later one. */
export function mirrorMarks(instance: string, role: MirrorRole, id: string): Map<string, string> {
  return new Map([
    [instanceKey, instance],
    [roleKey, role],
    [idKey, id],
  ])
}

/** Whether a mirror of this instance is for `role`. */
export function isMirrorFor(instance: string, role: MirrorRole, ids: ExternalIds): boolean {
  return ids.get(instanceKey) === instance && ids.get(roleKey) === role
}

/** The id that the next capture gets, as the root row's keys have it. */
export function nextCaptureId(instance: string, ids: ExternalIds): number {
  const next = Number(ids.get(nextCaptureIdKey(instance)) ?? 1)
  return Number.isSafeInteger(next) && next > 0 ? next : 1
}

/** Keys of the root row when that is the next capture's id. */
export function nextCaptureIdMark(instance: string, next: number): Map<string, string> {
  return new Map([[nextCaptureIdKey(instance), String(next)]])
}

function nextCaptureIdKey(instance: string): string {
  return `${prefix}${instance}:next-capture-id`
}

export function interfaceMarks(mac: MacAddress | undefined): Map<string, string> {
  return new Map(mac === undefined ? [] : [['attached-mac', mac]])
}

/** What a NetFlow row of ours is meant to be, beyond its columns. */
export interface NetflowRecord {
  /** Random, new with each making. */
  readonly id: string
  readonly endWithLastWriter: boolean
  /** By name, sorted. */
  readonly writers: ReadonlyMap<string, WriterSpec>
}

/** Marks of a NetFlow without writers. */
export function netflowMarks(instance: string, { id, endWithLastWriter }: Omit<NetflowRecord, 'writers'>) {
  const ids = madeMarks(instance, id)
  return endWithLastWriter ? ids.set(lastWriterKey, 'true') : ids
}

/** The key of a writer, with its value. */
export function writerMark({ target, format, gzip }: WriterSpec): [key: string, value: string] {
  return [writerPrefix + writerName(target), gzip ? `${format},gzip` : format]
}

/** Reads a NetFlow's keys; undefined when it is not this instance's. A writer that somebody has damaged is left out. */
export function readNetflowRecord(instance: string, ids: ExternalIds): NetflowRecord | undefined {
  if (ids.get(instanceKey) !== instance) return undefined
  const writers = [...ids].flatMap(([key, value]): [string, WriterSpec][] => {
    const target = key.startsWith(writerPrefix) ? parseWriterTarget(key.slice(writerPrefix.length)) : undefined
    const [, format, gzip] = /^(raw|ascii)(,gzip)?$/.exec(value) ?? []
    if (!target?.ok || (format !== 'raw' && format !== 'ascii')) return []
    return [[writerName(target.value), { target: target.value, format, gzip: gzip !== undefined }]]
  })
  return {
    id: ids.get(idKey) ?? '',
    endWithLastWriter: ids.get(lastWriterKey) === 'true',
    writers: new Map(writers.sort(([a], [b]) => (a < b ? -1 : 1))),
  }
}

/** IFLA_IFALIAS of a device of ours: says whose it is without OVSDB. */
export function deviceAlias(instance: string): string {
  return `${prefix}${instance}`
}

/** Instance that has marked a device as its own by {@link deviceAlias}; undefined: none. */
export function aliasOwner(alias: string): string | undefined {
  return alias.startsWith(prefix) ? alias.slice(prefix.length) : undefined
}

/** What stands behind a tap, with what only that kind has. */
export type TapBacking =
  | { readonly kind: 'tuntap'; readonly ownerUid: number | undefined; readonly multiQueue: boolean }
  | { readonly kind: 'container'; readonly netns: NetnsReference; readonly vethIndex: number }
  | { readonly kind: 'host' }
  | { readonly kind: 'adopted' }

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

/** What a bond is meant to be, beyond what its port says. */
export interface BondRecord {
  /** Random, new with each making. */
  readonly id: string
  /** VLAN it carries untagged; undefined: all, tagged. */
  readonly vlan: VlanId | undefined
  readonly qinqOuterVlan: VlanId | undefined
}

export function writeBondRecord(instance: string, { id, vlan, qinqOuterVlan }: BondRecord): Map<string, string> {
  const ids = portMarks(instance, 'bond').set(formatKey, format).set(idKey, id)
  if (vlan !== undefined) ids.set(`${prefix}vlan`, String(vlan))
  if (qinqOuterVlan !== undefined) ids.set(`${prefix}qinq-outer-vlan`, String(qinqOuterVlan))
  return ids
}

export function readBondRecord(ids: ExternalIds): BondRecord {
  const vlan = (key: string) => {
    const text = ids.get(prefix + key)
    const result = text === undefined ? undefined : parseVlanId(Number(text))
    return result?.ok ? result.value : undefined
  }
  return { id: ids.get(idKey) ?? '', vlan: vlan('vlan'), qinqOuterVlan: vlan('qinq-outer-vlan') }
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
    policedKbps: Number(/^\d{1,10}$/.exec(text('policed-kbps') ?? '')?.[0] ?? 0),
    ...(counted !== undefined && { counted }),
    defunct: ids.get(stateKey) === 'defunct',
    addresses: parseAddresses(ids.get(addressesKey) ?? ''),
  }
}

function readQos(text: (key: string) => string | undefined): Qos {
  const values: [string, number][] = qosFields.flatMap(field => {
    const value = parseQosField(field, text(`qos-${field}`) ?? '')
    return value.ok ? [[qosGrammar[field].key, value.value]] : []
  })
  return { ...noQos, ...Object.fromEntries(values) }
}

function readBacking(text: (key: string) => string | undefined): TapBacking | undefined {
  switch (text('kind')) {
    case 'tuntap': {
      const uid = text('owner-uid')
      return {
        kind: 'tuntap',
        ownerUid: uid === undefined ? undefined : Number(uid),
        multiQueue: text('multi-queue') === 'true',
      }
    }
    case 'container': {
      const netns = parseNetns(text('netns') ?? '')
      return netns.ok
        ? { kind: 'container', netns: netns.value, vethIndex: Number(text('veth-index') ?? 0) }
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
