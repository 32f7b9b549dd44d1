import { randomUUID } from 'node:crypto'
import { type FileIdentity, parseFileIdentity } from '../lib/safe-file.js'
import { parseWriterTarget, type WriterSpec, writerName } from '../netflow/index.js'
import { type MacAddress, parseVlanId, type VlanId } from './names.js'
import {
  configPrefix,
  type ExternalIds,
  format,
  formatKey,
  idKey,
  instanceKey,
  lastWriterKey,
  preExistKey,
  prefix,
  roleKey,
  writerFilePrefix,
  writerPrefix,
} from './ownership-keys.js'

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

/** Twelve hexadecimal digits. */
export function randomId(): string {
  // All of the last group of a version 4 is random (RFC 9562 §5.4), and Node.js draws for many at a time.
  return randomUUID().slice(-12)
}

/**
 * What SetBridgeConfig set on the bridge that carries these keys: `stp_enable` or `other_config:hwaddr` to the value as
 * given.
 */
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

/** Format of the row, when it is a later one than we read; a value that is no number counts as absent. */
export function laterFormat(ids: ExternalIds): number | undefined {
  const version = Number(ids.get(formatKey) ?? format)
  return version > Number(format) ? version : undefined
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

/** The last transaction that this instance has committed, as {@link lastTransactionMark} named it. */
export function lastTransaction(instance: string, ids: ExternalIds): string | undefined {
  return ids.get(lastTransactionKey(instance))
}

export function lastTransactionMark(instance: string, id: string): Map<string, string> {
  return new Map([[lastTransactionKey(instance), id]])
}

function lastTransactionKey(instance: string): string {
  return `${prefix}${instance}:last-transaction`
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
  /** Those that writers have made, by the writer's name. */
  readonly files: ReadonlyMap<string, FileIdentity>
}

/** Marks of a NetFlow without writers. */
export function netflowMarks(instance: string, { id, endWithLastWriter }: Omit<NetflowRecord, 'writers' | 'files'>) {
  const ids = madeMarks(instance, id)
  return endWithLastWriter ? ids.set(lastWriterKey, 'true') : ids
}

/** Marks of a writer, and of the file that it has made. */
export function writerMarks({ target, format, gzip }: WriterSpec, file: FileIdentity | undefined): Map<string, string> {
  const name = writerName(target)
  const marks = new Map([[writerPrefix + name, gzip ? `${format},gzip` : format]])
  return file === undefined ? marks : marks.set(writerFilePrefix + name, file)
}

/** The keys that a NetFlow loses with a writer. */
export function writerKeys(name: string): Map<string, undefined> {
  return new Map([
    [writerPrefix + name, undefined],
    [writerFilePrefix + name, undefined],
  ])
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
    files: new Map(
      writers.flatMap(([name]): [string, FileIdentity][] => {
        const identity = parseFileIdentity(ids.get(writerFilePrefix + name) ?? '')
        return identity.ok ? [[name, identity.value]] : []
      }),
    ),
  }
}

/** IFLA_IFALIAS of a device of ours: says whose it is without OVSDB. */
export function deviceAlias(instance: string): string {
  return `${prefix}${instance}`
}

/** IFLA_IFALIAS of the device of a bridge that we have made; ovs-vswitchd makes and removes it. */
export function bridgeDeviceAlias(instance: string): string {
  return `ovs-bridged-bridge:${instance}`
}

/** Instance that has marked a device as its own by {@link deviceAlias}; undefined: none. */
export function aliasOwner(alias: string): string | undefined {
  return alias.startsWith(prefix) ? alias.slice(prefix.length) : undefined
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

/** Changes to a record's keys (undefined: removed) that put a bond on this outer VLAN. */
export function bondQinQMark(outerVlan: VlanId | undefined): Map<string, string | undefined> {
  return new Map([[`${prefix}qinq-outer-vlan`, outerVlan === undefined ? undefined : String(outerVlan)]])
}

export function readBondRecord(ids: ExternalIds): BondRecord {
  const vlan = (key: string) => {
    const text = ids.get(prefix + key)
    const result = text === undefined ? undefined : parseVlanId(Number(text))
    return result?.ok ? result.value : undefined
  }
  return { id: ids.get(idKey) ?? '', vlan: vlan('vlan'), qinqOuterVlan: vlan('qinq-outer-vlan') }
}
