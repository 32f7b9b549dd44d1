import type { Host } from '../bridge/host.js'
import { createMirror, destroyMirror, type Mirror } from '../bridge/mirror.js'
import { parseBridgeName, parsePortName } from '../bridge/names.js'
import {
  type CreateMirrorRequest,
  type CreateMirrorResponse,
  type DestroyMirrorRequest,
  type DestroyMirrorResponse,
  Mirror as MirrorMessage,
} from '../gen/ovs/bridge/v1/mirror.js'
import type { UnaryHandler } from './call.js'
import { optional, takeFields } from './fields.js'

export function createMirrorOn(host: Host): UnaryHandler<CreateMirrorRequest, CreateMirrorResponse> {
  return async (request, call) => {
    const {
      bridge = host.defaultBridge,
      source,
      destination,
    } = takeFields({
      bridge: optional(request.bridge, parseBridgeName),
      source: optional(request.source, parsePortName),
      destination: parsePortName(request.destination),
    })
    return { mirror: mirrorMessage(await createMirror(host, { bridge, source, destination }, call)) }
  }
}

export function destroyMirrorOn(host: Host): UnaryHandler<DestroyMirrorRequest, DestroyMirrorResponse> {
  return async (request, call) => {
    const { destination } = takeFields({ destination: parsePortName(request.destination) })
    return { mirror: mirrorMessage(await destroyMirror(host, destination, call)) }
  }
}

function mirrorMessage(mirror: Mirror): MirrorMessage {
  return MirrorMessage.fromPartial({ ...mirror, source: mirror.source ?? '' })
}
