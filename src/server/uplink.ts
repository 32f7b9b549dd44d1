import type { Host } from '../bridge/host.js'
import { parseBridgeName, parsePortName, parseRemoteIp, parseVlanId, type VlanId } from '../bridge/names.js'
import { addTrunk, removeTrunk } from '../bridge/trunk.js'
import { addTunnel, parseDstPort, parseTunnelKey, removeTunnel, type Tunnel } from '../bridge/tunnel.js'
import type { TunnelType } from '../bridge/tunnel-names.js'
import {
  type AddTrunkRequest,
  type AddTrunkResponse,
  type AddTunnelRequest,
  type AddTunnelResponse,
  type RemoveTrunkRequest,
  type RemoveTrunkResponse,
  type RemoveTunnelRequest,
  type RemoveTunnelResponse,
  Tunnel as TunnelMessage,
  TunnelType as TunnelTypeEnum,
} from '../gen/ovs/bridge/v1/uplink.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import type { UnaryHandler } from './call.js'
import { bridgeMessage } from './convert.js'
import { optional, takeFields } from './fields.js'

export function addTrunkOn(host: Host): UnaryHandler<AddTrunkRequest, AddTrunkResponse> {
  return async (request, call) => {
    const spec = takeFields({ ...place(request), vlans: parseVlans(request.vlans) })
    const trunk = await addTrunk(host, spec, call)
    return { trunk: { ...trunk, vlans: [...trunk.vlans] } }
  }
}

export function removeTrunkOn(host: Host): UnaryHandler<RemoveTrunkRequest, RemoveTrunkResponse> {
  return async (request, call) => {
    const fields = takeFields(place(request))
    return { bridge: bridgeMessage(await removeTrunk(host, fields.interface, fields.bridge, call)) }
  }
}

export function addTunnelOn(host: Host): UnaryHandler<AddTunnelRequest, AddTunnelResponse> {
  return async (request, call) => {
    const type = parseTunnelType(request.type)
    // Without a type, GRE lets pass whatever some type would.
    const lenient = type.ok ? type.value : 'gre'
    const { bridge, remote_ip, key, dst_port } = takeFields({
      bridge: optional(request.bridge, parseBridgeName),
      type,
      remote_ip: parseRemoteIp(request.remoteIp),
      key: optional(request.key, text => parseTunnelKey(text, lenient)),
      dst_port: type.ok ? parseDstPort(request.dstPort, type.value) : parsed(undefined),
    })
    const spec = { bridge, type: lenient, remoteIp: remote_ip, key, dstPort: dst_port }
    return { tunnel: tunnelMessage(await addTunnel(host, spec, call)) }
  }
}

export function removeTunnelOn(host: Host): UnaryHandler<RemoveTunnelRequest, RemoveTunnelResponse> {
  return async (request, call) => {
    const fields = takeFields(place(request))
    return { bridge: bridgeMessage(await removeTunnel(host, fields.interface, fields.bridge, call)) }
  }
}

function place(request: { readonly bridge: string; readonly interface: string }) {
  return {
    bridge: optional(request.bridge, parseBridgeName),
    interface: parsePortName(request.interface),
  }
}

function parseVlans(values: readonly number[]): Parsed<readonly VlanId[]> {
  const vlans = new Set<VlanId>()
  for (const value of values) {
    const vlan = parseVlanId(value)
    if (!vlan.ok) return vlan
    if (vlans.has(vlan.value)) return refused(`name ${value} twice`)
    vlans.add(vlan.value)
  }
  return parsed([...vlans])
}

const types = {
  vxlan: TunnelTypeEnum.VXLAN,
  gre: TunnelTypeEnum.GRE,
  geneve: TunnelTypeEnum.GENEVE,
} satisfies Record<TunnelType, TunnelTypeEnum>

function parseTunnelType(type: TunnelTypeEnum): Parsed<TunnelType> {
  switch (type) {
    case TunnelTypeEnum.VXLAN:
      return parsed('vxlan')
    case TunnelTypeEnum.GRE:
      return parsed('gre')
    case TunnelTypeEnum.GENEVE:
      return parsed('geneve')
    case TunnelTypeEnum.UNSPECIFIED:
      return refused('is not given')
    default:
      return refused(`is ${type}, which is no TunnelType`)
  }
}

function tunnelMessage(tunnel: Tunnel): TunnelMessage {
  const { type, key, dstPort } = tunnel
  return TunnelMessage.fromPartial({ ...tunnel, type: types[type], key: key ?? '', dstPort: dstPort ?? 0 })
}
