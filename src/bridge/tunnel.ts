import { isIPv6 } from 'node:net'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import type { Call } from './call.js'
import type { Host } from './host.js'
import { type Bridge, getBridge, managedBridge } from './inventory.js'
import {
  type BridgeName,
  type PortName,
  parseTunnelKey as parseKey,
  parseRemoteIp,
  type RemoteIp,
  type TunnelKey,
} from './names.js'
import type { OvsRows } from './ovs.js'
import { tunnelExists, tunnelNotFound, unsupported } from './problem.js'
import { nextName } from './tap.js'
import type { TunnelType } from './tunnel-names.js'
import { tunnelWarning } from './tunnel-route.js'
import { addUplink, removeUplink } from './uplink.js'

/** What a tunnel puts around frames. */
export interface Wrapping {
  readonly type: TunnelType
  readonly remoteIp: RemoteIp
  /** undefined: none. */
  readonly key: TunnelKey | undefined
  /** UDP port of the other host; undefined for GRE. */
  readonly dstPort: number | undefined
}

/** A port that sends the frames of a bridge to another host. */
export interface Tunnel extends Wrapping {
  readonly interface: PortName
  readonly bridge: BridgeName
  /** Why nothing will come through as things are, though Open vSwitch reports no error; empty: nothing known. */
  readonly warning: string
}

/** Bits of the key, and the default UDP port. */
const traits: Readonly<Record<TunnelType, { readonly keyBits: number; readonly dstPort: number | undefined }>> = {
  vxlan: { keyBits: 24, dstPort: 4789 },
  gre: { keyBits: 32, dstPort: undefined },
  geneve: { keyBits: 24, dstPort: 6081 },
}

/** `flow`, or a number that fits into the type's field. */
export function parseTunnelKey(text: string, type: TunnelType): Parsed<TunnelKey> {
  return parseKey(text, traits[type].keyBits)
}

/** 0: the type's own. */
export function parseDstPort(value: number, type: TunnelType): Parsed<number | undefined> {
  const usual = traits[type].dstPort
  if (value === 0) return parsed(usual)
  if (usual === undefined) return refused(`is ${value}; ${type} has no ports`)
  return value > 65535 ? refused(`is ${value}; a UDP port is 1 to 65535`) : parsed(value)
}

/**
 * Puts a tunnel on a bridge, and returns when Open vSwitch has opened it. Whether the other host can be reached is told
 * by the warning: a route may come later.
 *
 * Errors: `not-found` bridge; `unsupported` by the bridge's datapath; `already-exists` when a tunnel wraps frames in the
 * same way; `not-realised`, those of a commit.
 */
export async function addTunnel(
  host: Host,
  spec: Wrapping & { readonly bridge: BridgeName | undefined },
  call: Call,
): Promise<Tunnel> {
  const { bridge = host.defaultBridge, ...wrapping } = spec
  refuseUnsupported(managedBridge(host, bridge), wrapping)
  const refuse = () => refuseTwin(host, wrapping)
  refuse()
  const name = await nextName(host, host.tunnelNames[wrapping.type], new Set(), call)
  const { type } = wrapping
  const uplink = { name, role: 'tunnel', bridge, port: {}, interface: { type, options: options(wrapping) } } as const
  await addUplink(host, { ...uplink, ifindex: undefined }, { claims: [identity(wrapping)], refuse }, call)
  return { ...wrapping, interface: name, bridge, warning: tunnelWarning(host.ovsdb.replica, name) ?? '' }
}

/** Takes a tunnel away. Errors: `not-found` bridge or tunnel, those of a commit. */
export async function removeTunnel(
  host: Host,
  name: PortName,
  bridge: BridgeName = host.defaultBridge,
  call: Call,
): Promise<Bridge> {
  await removeUplink(host, { name, role: 'tunnel', bridge }, () => tunnelNotFound(name, bridge), call)
  return getBridge(host, bridge)
}

function options({ remoteIp, key, dstPort }: Wrapping): Map<string, string> {
  const set = new Map<string, string>([['remote_ip', remoteIp]])
  if (key !== undefined) set.set('key', key)
  if (dstPort !== undefined) set.set('dst_port', String(dstPort))
  return set
}

/** Equal for tunnels that Open vSwitch cannot tell apart when it receives: no key is the key 0 to it. */
function identity({ type, remoteIp, key, dstPort }: Wrapping): string {
  return `${type} tunnel to ${remoteIp} with key ${key ?? 0}${dstPort === undefined ? '' : ` and port ${dstPort}`}`
}

/** The kernel's datapath has GRE over IPv4 alone; Open vSwitch opens such a tunnel without an error, and sends nothing. */
function refuseUnsupported({ name, datapath_type }: OvsRows['Bridge'], { type, remoteIp }: Wrapping): void {
  if (datapath_type === 'netdev' || type !== 'gre' || !isIPv6(remoteIp)) return
  throw unsupported(
    `bridge ${name} is on the kernel's datapath, which has no GRE over IPv6`,
    'use a VXLAN or Geneve tunnel',
  )
}

/** Open vSwitch has one tunnel of a kind on all bridges; a second one it would only log as “File exists”. */
function refuseTwin(host: Host, wrapping: Wrapping): void {
  const wanted = identity(wrapping)
  for (const row of host.ovsdb.replica.rows('Interface')) {
    const there = row.type === wrapping.type ? wrappingOf(row, wrapping.type) : undefined
    if (there !== undefined && identity(there) === wanted) throw tunnelExists(row.name, wanted)
  }
}

/** undefined: it has options beyond ours, or such as we would refuse. */
function wrappingOf(row: OvsRows['Interface'], type: TunnelType): Wrapping | undefined {
  const { remote_ip = '', key: keyText, dst_port = '0', ...others } = Object.fromEntries(row.options)
  const remoteIp = parseRemoteIp(remote_ip)
  const key = keyText === undefined ? parsed(undefined) : parseTunnelKey(keyText, type)
  const dstPort = parseDstPort(Number(dst_port), type)
  if (Object.keys(others).length > 0 || !remoteIp.ok || !key.ok || !dstPort.ok) return undefined
  return { type, remoteIp: remoteIp.value, key: key.value, dstPort: dstPort.value }
}
