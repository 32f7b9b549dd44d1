import { littleEndian, viewOf } from '../../lib/byte-order.js'
import type { Link, LinkStatistics, TunFacts } from '../link.js'
import {
  type Attribute,
  type Attributes,
  bytes,
  decodeAttributes,
  encodeAttributes,
  nested,
  readNested,
  readText,
  readU8,
  readU32,
  text,
  u8,
  u32,
} from './attribute.js'
import { concatenate } from './message.js'

// rtnetlink(7), <linux/rtnetlink.h>
export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18
export const RTM_SETLINK = 19
export const RTNLGRP_LINK = 1

// netdevice(7), <linux/if.h>
const IFF_UP = 0x1
const IFF_PROMISC = 0x100

// <linux/if_link.h>
const IFLA_ADDRESS = 1
const IFLA_IFNAME = 3
const IFLA_MTU = 4
const IFLA_LINK = 5
const IFLA_LINKINFO = 18
const IFLA_IFALIAS = 20
const IFLA_STATS64 = 23
const IFLA_AF_SPEC = 26
const IFLA_GROUP = 27
const IFLA_NET_NS_FD = 28
const IFLA_EXT_MASK = 29
const IFLA_PROMISCUITY = 30
const IFLA_LINK_NETNSID = 37
const IFLA_INFO_KIND = 1
const IFLA_INFO_DATA = 2
const IFLA_TUN_OWNER = 1
const IFLA_TUN_PERSIST = 6
const IFLA_TUN_MULTI_QUEUE = 7
const VETH_INFO_PEER = 1
const IFLA_INET_CONF = 1
const IFLA_INET6_ADDR_GEN_MODE = 8
const IN6_ADDR_GEN_MODE_NONE = 1
const RTEXT_FILTER_SKIP_STATS = 1 << 3

const AF_UNSPEC = 0
const AF_INET = 2
const AF_INET6 = 10
/** <linux/ip.h> */
const IPV4_DEVCONF_ARP_IGNORE = 19
/** Answer no ARP request (arp_ignore in the kernel's ip-sysctl.rst). */
const neverAnswerArp = 8

const ifinfomsgBytes = 16

/** What to say about a device; what is absent is not said. */
export interface LinkSettings {
  readonly name?: string
  readonly mac?: string
  readonly mtuBytes?: number
  readonly alias?: string
  readonly group?: number
  readonly up?: boolean
  readonly promiscuous?: boolean
  /** The open namespace in which the device shall be; one that is there moves, and takes `name` on the way. */
  readonly netnsFd?: number
  /**
   * The host's own protocols keep away: no ARP answers (arp_ignore 8), no IPv6 address, so no MLD and no router
   * solicitation.
   */
  readonly silent?: 'ip' | 'ipv4-only'
}

/** Asks for one device by index or, with 0, by name. */
export function encodeLinkQuery(index: number, name: string | undefined): Uint8Array {
  return concatenate(ifinfomsg(index, 0, 0), encodeAttributes(name === undefined ? [] : [text(IFLA_IFNAME, name)]))
}

/** Asks for all devices, on request without their counters, which are the most of each message. */
export function encodeLinkDump(statistics: boolean): Uint8Array {
  return concatenate(
    ifinfomsg(0, 0, 0),
    encodeAttributes(statistics ? [] : [u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)]),
  )
}

/** RTM_SETLINK of one device by index or, with 0, by `settings.name`. */
export function encodeLinkChange(index: number, settings: LinkSettings): Uint8Array {
  return concatenate(ifinfomsgOf(index, settings), encodeAttributes(settingAttributes(settings)))
}

/** RTM_DELLINK of exactly this device. */
export function encodeLinkDeletion(index: number): Uint8Array {
  return ifinfomsg(index, 0, 0)
}

/** RTM_DELLINK of every device of a group: all or, when one of them cannot be deleted, none. */
export function encodeGroupDeletion(group: number): Uint8Array {
  return concatenate(ifinfomsg(0, 0, 0), encodeAttributes([u32(IFLA_GROUP, group)]))
}

/** RTM_NEWLINK of a veth pair: one end where `far.netnsFd` says, its peer here (`drivers/net/veth.c`). */
export function encodeVeth(far: LinkSettings, near: LinkSettings): Uint8Array {
  const peer = concatenate(ifinfomsgOf(0, near), encodeAttributes(settingAttributes(near)))
  return concatenate(
    ifinfomsgOf(0, far),
    encodeAttributes([
      ...settingAttributes(far),
      nested(IFLA_LINKINFO, [text(IFLA_INFO_KIND, 'veth'), nested(IFLA_INFO_DATA, [bytes(VETH_INFO_PEER, peer)])]),
    ]),
  )
}

/** Reads RTM_NEWLINK and RTM_DELLINK. Counters that were not asked for read as 0. */
export function decodeLink(payload: Uint8Array): Link {
  const view = viewOf(payload)
  const flags = view.getUint32(8, littleEndian)
  const attributes = decodeAttributes(payload.subarray(ifinfomsgBytes))
  const info = readNested(attributes, IFLA_LINKINFO)
  const kind = readText(info, IFLA_INFO_KIND) ?? ''
  return {
    index: view.getInt32(4, littleEndian),
    name: readText(attributes, IFLA_IFNAME) ?? '',
    kind,
    ...(kind === 'tun' && { tun: decodeTun(readNested(info, IFLA_INFO_DATA)) }),
    mac: formatMac(attributes.get(IFLA_ADDRESS) ?? new Uint8Array()),
    mtuBytes: readU32(attributes, IFLA_MTU) ?? 0,
    group: readU32(attributes, IFLA_GROUP) ?? 0,
    up: (flags & IFF_UP) !== 0,
    promiscuous: (flags & IFF_PROMISC) !== 0 || (readU32(attributes, IFLA_PROMISCUITY) ?? 0) > 0,
    alias: readText(attributes, IFLA_IFALIAS) ?? '',
    ...(kind === 'veth' && decodePeer(attributes)),
    statistics: decodeStatistics(attributes.get(IFLA_STATS64)),
  }
}

/** For RTM_NEWLINK and RTM_DELLINK: the address families' own notices (bridge ports…) travel under the same types. */
export function isDeviceMessage(payload: Uint8Array): boolean {
  return payload[0] === AF_UNSPEC
}

function decodeTun(data: Attributes): TunFacts {
  const ownerUid = readU32(data, IFLA_TUN_OWNER)
  return {
    ...(ownerUid !== undefined && { ownerUid }),
    persistent: readU8(data, IFLA_TUN_PERSIST) === 1,
    multiQueue: readU8(data, IFLA_TUN_MULTI_QUEUE) === 1,
  }
}

function decodePeer(attributes: Attributes): { peerIndex?: number; peerNetnsId?: number } {
  const peerIndex = readU32(attributes, IFLA_LINK)
  const peerNetnsId = readU32(attributes, IFLA_LINK_NETNSID)
  return {
    ...(peerIndex !== undefined && peerIndex !== 0 && { peerIndex }),
    // NETNSA_NSID_NOT_ASSIGNED, −1: a namespace this one has no id for.
    ...(peerNetnsId !== undefined && peerNetnsId !== 0xffffffff && { peerNetnsId }),
  }
}

/** The first eight counters of `struct rtnl_link_stats64`; the order of the fields is the order in memory. */
function decodeStatistics(struct: Uint8Array | undefined): LinkStatistics {
  const counter = (position: number): bigint =>
    struct === undefined ? 0n : viewOf(struct).getBigUint64(position * 8, littleEndian)
  return {
    rxPackets: counter(0),
    txPackets: counter(1),
    rxBytes: counter(2),
    txBytes: counter(3),
    rxErrors: counter(4),
    txErrors: counter(5),
    rxDropped: counter(6),
    txDropped: counter(7),
  }
}

/** `struct ifinfomsg`: family, padding, device type, index, flags, and which of the flags are meant. */
function ifinfomsg(index: number, flags: number, change: number): Uint8Array {
  const out = new Uint8Array(ifinfomsgBytes)
  const view = viewOf(out)
  view.setInt32(4, index, littleEndian)
  view.setUint32(8, flags, littleEndian)
  view.setUint32(12, change, littleEndian)
  return out
}

function ifinfomsgOf(index: number, { up, promiscuous }: LinkSettings): Uint8Array {
  const flags = (up === true ? IFF_UP : 0) | (promiscuous === true ? IFF_PROMISC : 0)
  const change = (up === undefined ? 0 : IFF_UP) | (promiscuous === undefined ? 0 : IFF_PROMISC)
  return ifinfomsg(index, flags, change)
}

function settingAttributes(settings: LinkSettings): Attribute[] {
  const { name, mac, mtuBytes, alias, group, netnsFd, silent } = settings
  return [
    ...(name === undefined ? [] : [text(IFLA_IFNAME, name)]),
    ...(mac === undefined ? [] : [bytes(IFLA_ADDRESS, macBytes(mac))]),
    ...(mtuBytes === undefined ? [] : [u32(IFLA_MTU, mtuBytes)]),
    // Without a NUL: the kernel counts it, and an alias is taken away by an attribute of no bytes.
    ...(alias === undefined ? [] : [bytes(IFLA_IFALIAS, Buffer.from(alias))]),
    ...(group === undefined ? [] : [u32(IFLA_GROUP, group)]),
    ...(netnsFd === undefined ? [] : [u32(IFLA_NET_NS_FD, netnsFd)]),
    ...(silent === undefined ? [] : [nested(IFLA_AF_SPEC, silence(silent))]),
  ]
}

function silence(extent: 'ip' | 'ipv4-only'): Attribute[] {
  const ipv4 = nested(AF_INET, [nested(IFLA_INET_CONF, [u32(IPV4_DEVCONF_ARP_IGNORE, neverAnswerArp)])])
  const ipv6 = nested(AF_INET6, [u8(IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE)])
  return extent === 'ip' ? [ipv4, ipv6] : [ipv4]
}

function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':'), octet => Number.parseInt(octet, 16))
}

function formatMac(address: Uint8Array): string {
  return Array.from(address, octet => octet.toString(16).padStart(2, '0')).join(':')
}
