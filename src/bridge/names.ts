import { isIPv4, isIPv6, SocketAddress } from 'node:net'
import { type LinkName, parseLinkName } from '../kernel/index.js'
import type { Brand } from '../lib/brand.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'

export { type MacAddress, parseMacAddress } from '../kernel/index.js'

/** Name of a port, its interface and its device: 1–15 bytes, as ovs-vswitchd.conf.db(5), Port.name and the kernel take it. */
export type PortName = LinkName & Brand<string, 'PortName'>

/** Name of a bridge; also that of its local port, hence under the same rules. */
export type BridgeName = LinkName & Brand<string, 'BridgeName'>

/** 0–4095; 0 stands for untagged. ovs-vswitchd.conf.db(5), Port.tag. */
export type VlanId = Brand<number, 'VlanId'>

/** Bytes, as the kernel's Ethernet devices take them. */
export type MtuBytes = Brand<number, 'MtuBytes'>

export const untagged = 0 as VlanId

// Devices of the system and of the datapaths, and what /proc/sys/net has for all devices: never a bridge's or a port's.
const systemNames = new Set(['ovs-system', 'ovs-netdev', 'lo', 'all', 'default'])

/** ovs-vswitchd opens no port whose name begins like the devices behind its tunnels (netdev_is_reserved_name). */
const tunnelDevice = /^(vxlan|gre|genev|erspan|lisp|stt|gtpu|bareudp|srv6)_sys/

function parseName(text: string): Parsed<LinkName> {
  const link = parseLinkName(text)
  if (!link.ok) return link
  if (systemNames.has(text)) return refused('is a name that the system keeps for itself')
  if (tunnelDevice.test(text)) return refused('begins as the names do that Open vSwitch keeps for its tunnels')
  return link
}

export function parsePortName(text: string): Parsed<PortName> {
  return parseName(text) as Parsed<PortName>
}

export function parseBridgeName(text: string): Parsed<BridgeName> {
  return parseName(text) as Parsed<BridgeName>
}

export function parseVlanId(value: number): Parsed<VlanId> {
  if (!Number.isInteger(value) || value < 0 || value > 4095)
    return refused(`is ${value}; a VLAN is 0 (untagged) to 4095`)
  return parsed(value as VlanId)
}

/** An outer VLAN: 0 would be no tag. */
export function parseOuterVlan(value: number): Parsed<VlanId> {
  return value === 0 ? refused('is 0; an outer VLAN is 1 to 4095') : parseVlanId(value)
}

/** 68 is the least that IPv4 allows (RFC 791); 65535 the most that a device takes. */
export function parseMtu(value: number): Parsed<MtuBytes> {
  if (!Number.isInteger(value) || value < 68 || value > 65535)
    return refused(`is ${value}; an MTU is 68 to 65535 bytes`)
  return parsed(value as MtuBytes)
}

/** A namespace's name under /run/netns, or an absolute path such as /proc/1234/ns/net. */
export type NetnsReference = Brand<string, 'NetnsReference'>

export function parseNetns(text: string): Parsed<NetnsReference> {
  if (text.trim() === '') return refused('is empty')
  if (text.includes('\0')) return refused('holds a NUL')
  if (text.length > 4096) return refused('is longer than 4096 characters')
  if (!text.startsWith('/') && (text.includes('/') || text === '.' || text === '..'))
    return refused('is neither a name under /run/netns nor an absolute path')
  return parsed(text as NetnsReference)
}

/** The n-th of a family of names, `tap%v` → `tap17`. */
export interface NameFormat {
  readonly prefix: string
  readonly suffix: string
}

/** A format holds exactly one `%v` and leaves room for at least five digits in 15 bytes. */
export function parseNameFormat(text: string): Parsed<NameFormat> {
  const [prefix, suffix, ...rest] = text.split('%v')
  if (prefix === undefined || suffix === undefined || rest.length > 0) return refused('must hold %v exactly once')
  const longest = parsePortName(`${prefix}99999${suffix}`)
  return longest.ok
    ? parsed({ prefix, suffix })
    : refused(`gives names that cannot be taken: ${prefix}99999${suffix} ${longest.reason}`)
}

/** The name for `index`, or why it is none (they end where 15 bytes do). */
export function formatName(format: NameFormat, index: number): Parsed<PortName> {
  return parsePortName(`${format.prefix}${index}${format.suffix}`)
}

/** Name of a container tap's peer inside its namespace. */
export function peerNameOf(vethIndex: number): LinkName {
  // At most veth4294967295, 14 bytes.
  return `veth${vethIndex}` as LinkName
}

/** Address of another host in its canonical form. ovs-vswitchd.conf.db(5), Interface.options:remote_ip. */
export type RemoteIp = Brand<string, 'RemoteIp'>

/** One IPv4 or IPv6 host: no zone, no multicast, broadcast or unspecified address, no IPv4 within IPv6. */
export function parseRemoteIp(text: string): Parsed<RemoteIp> {
  if (isIPv4(text)) {
    if (text.startsWith('0.')) return refused('is of the network 0.0.0.0/8, which is no host')
    if (/^(22[4-9]|23\d)\./.test(text)) return refused('is a multicast address')
    if (text === '255.255.255.255') return refused('is the broadcast address')
    return parsed(text as RemoteIp)
  }
  if (!isIPv6(text)) return refused('is no IP address')
  if (text.includes('%')) return refused('has a zone, which a tunnel cannot have')
  const canonical = new SocketAddress({ address: text, family: 'ipv6' }).address
  if (canonical === '::') return refused('is the unspecified address')
  if (canonical.startsWith('ff')) return refused('is a multicast address')
  if (canonical.startsWith('::ffff:')) return refused('holds an IPv4 address; give that alone')
  return parsed(canonical as RemoteIp)
}

/** An endpoint's own address: canonical (RFC 5952), of one host and good beyond its link. */
export type IpAddress = Brand<string, 'IpAddress'>

/**
 * Takes an address, in its canonical form, that tells who is behind a tap. Those that mean no host, this host, a group, or
 * only something on one link (RFC 3927, RFC 4291 §2.5.6) do not.
 */
export function parseEndpointIp(text: string): Parsed<IpAddress> {
  if (isIPv4(text)) {
    const faults = [
      [/^0\./, 'of no host'],
      [/^127\./, 'of every host itself'],
      [/^169\.254\./, 'link-local'],
      [/^(22[4-9]|2[345]\d)\./, 'of no single host'],
    ] as const
    const fault = faults.find(([pattern]) => pattern.test(text))
    return fault === undefined ? parsed(text as IpAddress) : refused(`is ${fault[1]}`)
  }
  if (!isIPv6(text) || text.includes('%')) return refused('is no IP address')
  if (text === '::' || text === '::1') return refused('is of no other host')
  if (/^fe[89ab][\da-f]:/.test(text)) return refused('is link-local')
  if (/^ff[\da-f]{2}:/.test(text)) return refused('is a multicast address')
  return text.startsWith('::ffff:') ? refused('holds an IPv4 address') : parsed(text as IpAddress)
}

/** Decimal, or `flow`. ovs-vswitchd.conf.db(5), Interface.options:key. */
export type TunnelKey = Brand<string, 'TunnelKey'>

/** `flow`, or a number of so many bits, decimal or `0x` and hexadecimal. */
export function parseTunnelKey(text: string, bits: number): Parsed<TunnelKey> {
  if (text === 'flow') return parsed('flow' as TunnelKey)
  const largest = 2 ** bits - 1
  if (!/^(\d{1,10}|0x[\da-f]{1,8})$/i.test(text) || Number(text) > largest)
    return refused(`must be a number of 0 to ${largest}, or flow`)
  return parsed(String(Number(text)) as TunnelKey)
}
