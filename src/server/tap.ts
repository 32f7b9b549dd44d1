import { findBond, setBondQinQ } from '../bridge/bond.js'
import type { Host } from '../bridge/host.js'
import { getTap, listTaps, type Tap } from '../bridge/inventory.js'
import { addTap, moveTap, removeTap, setTapQinQ } from '../bridge/move.js'
import {
  parseBridgeName,
  parseMacAddress,
  parseMtu,
  parseNetns,
  parseOuterVlan,
  parsePortName,
  parseVlanId,
} from '../bridge/names.js'
import { invalid } from '../bridge/problem.js'
import { noQos } from '../bridge/qos-parse.js'
import { destroyTap, reapTaps } from '../bridge/reap.js'
import { createTaps, reserveTapName, type TapSpec } from '../bridge/tap.js'
import { destroyUnmanagedTap } from '../bridge/unmanaged.js'
import type {
  AddTapRequest,
  AddTapResponse,
  CreateContainerTapRequest,
  CreateContainerTapResponse,
  CreateHostTapRequest,
  CreateHostTapResponse,
  CreateTapRequest,
  CreateTapResponse,
  CreateTapsRequest,
  CreateTapsResponse,
  DestroyTapRequest,
  DestroyTapResponse,
  DestroyUnmanagedTapRequest,
  DestroyUnmanagedTapResponse,
  GetTapRequest,
  GetTapResponse,
  ListTapsRequest,
  ListTapsResponse,
  MoveTapRequest,
  MoveTapResponse,
  ReapTapsRequest,
  ReapTapsResponse,
  RemoveTapRequest,
  RemoveTapResponse,
  ReserveTapNameRequest,
  ReserveTapNameResponse,
  SetTapQinQRequest,
  SetTapQinQResponse,
} from '../gen/ovs/bridge/v1/tap.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import { bondMessage } from './bond.js'
import type { Call, UnaryHandler } from './call.js'
import { parseKind, tapMessage } from './convert.js'
import { maybe, optional, type TakenFields, takeEach, takeFields } from './fields.js'
import { page } from './page.js'
import { parseQos } from './qos.js'

export function createTapOn(host: Host): UnaryHandler<CreateTapRequest, CreateTapResponse> {
  return async (request, call) => {
    const spec = tuntapSpec(takeFields(tuntapFields(request)))
    return { tap: tapMessage(await createOne(host, spec, call)) }
  }
}

/** A limit of one call: its transaction holds up ovs-vswitchd for seconds. */
const maxTapsPerCall = 10_000

export function createTapsOn(host: Host): UnaryHandler<CreateTapsRequest, CreateTapsResponse> {
  return async (request, call) => {
    const { taps } = request
    if (taps.length > maxTapsPerCall) {
      throw invalid([{ field: 'taps', description: `are ${taps.length}; one call takes ${maxTapsPerCall}` }])
    }
    const specs = takeEach('taps', taps, tuntapFields).map(tuntapSpec)
    return { taps: (await createTaps(host, specs, call)).map(tapMessage) }
  }
}

export function reserveTapNameOn(host: Host): UnaryHandler<ReserveTapNameRequest, ReserveTapNameResponse> {
  return async (_request, call) => ({ tap: await reserveTapName(host, call) })
}

export function addTapOn(host: Host): UnaryHandler<AddTapRequest, AddTapResponse> {
  return async (request, call) => {
    const { tap, ...to } = takeFields({
      tap: parsePortName(request.tap),
      bridge: optional(request.bridge, parseBridgeName),
      vlan: maybe(request.vlan, parseVlanId),
      mac: optional(request.mac, parseMacAddress),
    })
    return { tap: tapMessage(await addTap(host, tap, to, call)) }
  }
}

export function removeTapOn(host: Host): UnaryHandler<RemoveTapRequest, RemoveTapResponse> {
  return async (request, call) => {
    const { tap } = takeFields({ tap: parsePortName(request.tap) })
    return { tap: tapMessage(await removeTap(host, tap, call)) }
  }
}

export function moveTapOn(host: Host): UnaryHandler<MoveTapRequest, MoveTapResponse> {
  return async (request, call) => {
    const { tap, ...to } = takeFields({
      tap: parsePortName(request.tap),
      bridge: optional(request.bridge, parseBridgeName),
      vlan: maybe(request.vlan, parseVlanId),
    })
    return { tap: tapMessage(await moveTap(host, tap, to, call)) }
  }
}

export function setTapQinQOn(host: Host): UnaryHandler<SetTapQinQRequest, SetTapQinQResponse> {
  return async (request, call) => {
    const { tap, outer_vlan } = takeFields({
      tap: parsePortName(request.tap),
      outer_vlan: maybe(request.outerVlan, parseOuterVlan),
    })
    if (findBond(host, tap) !== undefined) {
      return { tap: undefined, bond: bondMessage(await setBondQinQ(host, tap, outer_vlan, call)) }
    }
    return { tap: tapMessage(await setTapQinQ(host, tap, outer_vlan, call)), bond: undefined }
  }
}

export function destroyUnmanagedTapOn(
  host: Host,
): UnaryHandler<DestroyUnmanagedTapRequest, DestroyUnmanagedTapResponse> {
  return async (request, call) => {
    const { tap } = takeFields({ tap: parsePortName(request.tap) })
    await destroyUnmanagedTap(host, tap, call)
    return {}
  }
}

export function createContainerTapOn(host: Host): UnaryHandler<CreateContainerTapRequest, CreateContainerTapResponse> {
  return async (request, call) => {
    const { bridge, tap, netns, mac, vlan, mtu, qos } = takeFields({
      ...place(request),
      netns: parseNetns(request.netns),
      mac: optional(request.mac, parseMacAddress),
      mtu: optional(request.mtu, parseMtu),
      qos: parseQos(request.qos),
    })
    const backing = { kind: 'container', netns, vethIndex: request.vethIndex } as const
    return { tap: tapMessage(await createOne(host, { bridge, name: tap, vlan, mac, mtu, backing, qos }, call)) }
  }
}

export function createHostTapOn(host: Host): UnaryHandler<CreateHostTapRequest, CreateHostTapResponse> {
  return async (request, call) => {
    const { bridge, tap, vlan } = takeFields(place(request))
    const spec = {
      bridge,
      name: tap,
      vlan,
      mac: undefined,
      mtu: undefined,
      backing: { kind: 'host' },
      qos: noQos,
    } as const
    return { tap: tapMessage(await createOne(host, spec, call)) }
  }
}

export function getTapOn(host: Host): UnaryHandler<GetTapRequest, GetTapResponse> {
  return async request => {
    const { tap } = takeFields({ tap: parsePortName(request.tap) })
    return { tap: tapMessage(getTap(host, tap)) }
  }
}

export function listTapsOn(host: Host): UnaryHandler<ListTapsRequest, ListTapsResponse> {
  return async request => {
    const { bridge, kind, vlan } = takeFields({
      bridge: optional(request.bridge, parseBridgeName),
      kind: parseKind(request.kind),
      vlan: maybe(request.vlan, parseVlanId),
    })
    const taps = listTaps(host, { bridge, kind, vlan, taps: undefined, includeDefunct: request.includeDefunct })
    const { items, nextPageToken } = page(taps, tap => tap.name, request)
    return { taps: items.map(tapMessage), nextPageToken }
  }
}

export function destroyTapOn(host: Host): UnaryHandler<DestroyTapRequest, DestroyTapResponse> {
  return async (request, call) => {
    const { tap } = takeFields({ tap: parsePortName(request.tap) })
    return { tap: tapMessage(await destroyTap(host, tap, call)) }
  }
}

export function reapTapsOn(host: Host): UnaryHandler<ReapTapsRequest, ReapTapsResponse> {
  return async (_request, call) => ({ taps: await reapTaps(host, call) })
}

function tuntapFields(request: CreateTapRequest) {
  return {
    ...place(request),
    mac: optional(request.mac, parseMacAddress),
    mtu: optional(request.mtu, parseMtu),
    owner_uid: maybe(request.ownerUid, parseUid),
    multi_queue: parsed(request.multiQueue),
    qos: parseQos(request.qos),
  }
}

function tuntapSpec(fields: TakenFields<ReturnType<typeof tuntapFields>>): TapSpec {
  const { bridge, tap, vlan, mac, mtu, owner_uid, multi_queue, qos } = fields
  return {
    bridge,
    name: tap,
    vlan,
    mac,
    mtu,
    backing: { kind: 'tuntap', ownerUid: owner_uid, multiQueue: multi_queue },
    qos,
  }
}

/** (uid_t) -1 stands for no user: chown(2). */
function parseUid(uid: number): Parsed<number> {
  return uid === 0xffff_ffff ? refused('is 4294967295, which is no user') : parsed(uid)
}

/** The fields that every Create call of a tap has. */
function place(request: { readonly bridge: string; readonly tap: string; readonly vlan: number }) {
  return {
    bridge: optional(request.bridge, parseBridgeName),
    tap: optional(request.tap, parsePortName),
    vlan: parseVlanId(request.vlan),
  }
}

async function createOne(host: Host, spec: TapSpec, call: Call): Promise<Tap> {
  const [tap] = await createTaps(host, [spec], call)
  if (tap === undefined) throw new Error('a tap was created and not returned')
  return tap
}
