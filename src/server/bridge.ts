import { destroyAllBridges, destroyBridge, ensureBridge } from '../bridge/bridge.js'
import { setBridgeConfig } from '../bridge/config.js'
import type { Host } from '../bridge/host.js'
import { getBridge, listBridges } from '../bridge/inventory.js'
import { parseBridgeName } from '../bridge/names.js'
import { destroyUnmanagedBridge } from '../bridge/unmanaged.js'
import {
  Bridge as BridgeMessage,
  type DestroyAllBridgesRequest,
  type DestroyAllBridgesResponse,
  type DestroyBridgeRequest,
  type DestroyBridgeResponse,
  type DestroyUnmanagedBridgeRequest,
  type DestroyUnmanagedBridgeResponse,
  type EnsureBridgeRequest,
  type EnsureBridgeResponse,
  type GetBridgeRequest,
  type GetBridgeResponse,
  type ListBridgesRequest,
  type ListBridgesResponse,
  type SetBridgeConfigRequest,
  type SetBridgeConfigResponse,
} from '../gen/ovs/bridge/v1/bridge.js'
import type { UnaryHandler } from './call.js'
import { bridgeMessage } from './convert.js'
import { optional, takeFields } from './fields.js'
import { page } from './page.js'

export function ensureBridgeOn(host: Host): UnaryHandler<EnsureBridgeRequest, EnsureBridgeResponse> {
  return async (request, call) => {
    const { bridge } = takeFields({ bridge: optional(request.bridge, parseBridgeName) })
    return { bridge: bridgeMessage(await ensureBridge(host, bridge ?? host.defaultBridge, call)) }
  }
}

export function getBridgeOn(host: Host): UnaryHandler<GetBridgeRequest, GetBridgeResponse> {
  return async request => {
    const { bridge } = takeFields({ bridge: parseBridgeName(request.bridge) })
    return { bridge: bridgeMessage(getBridge(host, bridge)) }
  }
}

export function listBridgesOn(host: Host): UnaryHandler<ListBridgesRequest, ListBridgesResponse> {
  return async request => {
    // Settings and VLANs can make a bridge large.
    const bytesOf = (bridge: BridgeMessage) => BridgeMessage.encode(bridge).finish().length
    const { items, nextPageToken } = page(listBridges(host).map(bridgeMessage), ({ name }) => name, request, bytesOf)
    return { bridges: [...items], nextPageToken }
  }
}

export function destroyBridgeOn(host: Host): UnaryHandler<DestroyBridgeRequest, DestroyBridgeResponse> {
  return async (request, call) => {
    const { bridge } = takeFields({ bridge: parseBridgeName(request.bridge) })
    return await destroyBridge(host, bridge, call)
  }
}

export function destroyAllBridgesOn(host: Host): UnaryHandler<DestroyAllBridgesRequest, DestroyAllBridgesResponse> {
  return async (_request, call) => {
    const { destroyed, leftInPlace } = await destroyAllBridges(host, call)
    return { destroyed: [...destroyed], leftInPlace: [...leftInPlace] }
  }
}

export function destroyUnmanagedBridgeOn(
  host: Host,
): UnaryHandler<DestroyUnmanagedBridgeRequest, DestroyUnmanagedBridgeResponse> {
  return async (request, call) => {
    const { bridge } = takeFields({ bridge: parseBridgeName(request.bridge) })
    await destroyUnmanagedBridge(host, bridge, call)
    return {}
  }
}

export function setBridgeConfigOn(host: Host): UnaryHandler<SetBridgeConfigRequest, SetBridgeConfigResponse> {
  return async (request, call) => {
    const { bridge } = takeFields({ bridge: optional(request.bridge, parseBridgeName) })
    return { bridge: bridgeMessage(await setBridgeConfig(host, bridge ?? host.defaultBridge, request.settings, call)) }
  }
}
