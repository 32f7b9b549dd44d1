import type { AddressSource, SeenAddress } from './address-list.js'
import type { BridgeName, IpAddress, MacAddress, PortName, VlanId } from './names.js'
import type { TapBacking, TapRecord } from './ownership-tap.js'

/** An address as its tap shows it. */
export interface TapAddress {
  readonly ip: IpAddress
  readonly mac: MacAddress
  /** Of the frame's tag, else the tap's. */
  readonly vlan: VlanId
  readonly source: AddressSource
  readonly lastSeenMs: number
}

/** An address with the tap that it was seen behind; `name`, `bridge` and `backing` are the tap's. */
export interface AddressEntry {
  readonly name: PortName
  readonly bridge: BridgeName | undefined
  readonly backing: TapBacking
  readonly vlan: VlanId
  readonly address: TapAddress
  /** A tap that had the same address or MAC on this VLAN when it was last seen here. */
  readonly rival: PortName | undefined
}

/** Tells an address from the others of its tap. */
export function idOf({ ip, tag }: Pick<SeenAddress, 'ip' | 'tag'>): string {
  return `${tag ?? ''} ${ip}`
}

export function shown({ vlan }: TapRecord, { tag, ...address }: SeenAddress): TapAddress {
  return { ...address, vlan: tag ?? vlan }
}

export function entryOf(record: TapRecord, seen: SeenAddress, rival: PortName | undefined): AddressEntry {
  const address = shown(record, seen)
  const { name, bridge, backing } = record
  return { name, bridge, backing, vlan: address.vlan, address, rival }
}

/** Where two stations of one address would meet. */
export function linkOf({ bridge, vlan, qinqOuterVlan }: TapRecord, tag: VlanId | undefined): string {
  return `${bridge ?? ''} ${qinqOuterVlan ?? ''} ${tag ?? vlan}`
}

/** What no two taps of a link should have; a detached tap is on none. */
export function keysOf(record: TapRecord, { ip, mac, tag }: Pick<SeenAddress, 'ip' | 'mac' | 'tag'>): string[] {
  if (record.bridge === undefined) return []
  const link = linkOf(record, tag)
  return [`${link} ${ip}`, `${link} ${mac}`]
}

export function isSameEntry(a: AddressEntry, b: AddressEntry): boolean {
  return !isNews(a, b) && a.rival === b.rival && a.address.lastSeenMs === b.address.lastSeenMs
}

/** Whether an address that was known is to be told of as if it were new. */
export function isNews(before: AddressEntry, after: AddressEntry): boolean {
  return (
    before.bridge !== after.bridge ||
    before.vlan !== after.vlan ||
    before.address.ip !== after.address.ip ||
    before.address.mac !== after.address.mac
  )
}
