import { addBond, deleteBond } from '../bridge/bond.js'
import type { Bond, BondMode, LacpMode } from '../bridge/bond-port.js'
import type { Host } from '../bridge/host.js'
import { parseBridgeName, parsePortName, parseVlanId } from '../bridge/names.js'
import type {
  AddBondRequest,
  AddBondResponse,
  DeleteBondRequest,
  DeleteBondResponse,
} from '../gen/ovs/bridge/v1/bond.js'
import { Bond as BondMessage, BondMode as BondModeEnum, LacpMode as LacpModeEnum } from '../gen/ovs/bridge/v1/bond.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import type { UnaryHandler } from './call.js'
import { maybe, optional, takeFields } from './fields.js'

const modes = {
  'active-backup': BondModeEnum.ACTIVE_BACKUP,
  'balance-slb': BondModeEnum.BALANCE_SLB,
  'balance-tcp': BondModeEnum.BALANCE_TCP,
} satisfies Record<BondMode, BondModeEnum>

const lacps = {
  off: LacpModeEnum.OFF,
  active: LacpModeEnum.ACTIVE,
  passive: LacpModeEnum.PASSIVE,
} satisfies Record<LacpMode, LacpModeEnum>

export function bondMessage(bond: Bond): BondMessage {
  const { members, mode, lacp, ...rest } = bond
  return BondMessage.fromPartial({ ...rest, members: [...members], mode: modes[mode], lacp: lacps[lacp] })
}

export function addBondOn(host: Host): UnaryHandler<AddBondRequest, AddBondResponse> {
  return async (request, call) => {
    const { bridge, bond, mode, lacp, vlan } = takeFields({
      bridge: optional(request.bridge, parseBridgeName),
      bond: optional(request.bond, parsePortName),
      mode: parseMode(request.mode),
      lacp: parseLacp(request.lacp),
      vlan: maybe(request.vlan, parseVlanId),
    })
    const named = request.members.map((member, index) => [`members[${index}]`, parsePortName(member)] as const)
    const members = Object.values(takeFields(Object.fromEntries(named)))
    const { lacpFallback } = request
    const spec = { bridge: bridge ?? host.defaultBridge, name: bond, members, mode, lacp, lacpFallback, vlan }
    return { bond: bondMessage(await addBond(host, spec, call)) }
  }
}

export function deleteBondOn(host: Host): UnaryHandler<DeleteBondRequest, DeleteBondResponse> {
  return async (request, call) => {
    const { bridge, bond } = takeFields({ bridge: parseBridgeName(request.bridge), bond: parsePortName(request.bond) })
    return { bond: bondMessage(await deleteBond(host, bridge, bond, call)) }
  }
}

function parseMode(mode: BondModeEnum): Parsed<BondMode> {
  switch (mode) {
    case BondModeEnum.ACTIVE_BACKUP:
      return parsed('active-backup')
    case BondModeEnum.BALANCE_SLB:
      return parsed('balance-slb')
    case BondModeEnum.BALANCE_TCP:
      return parsed('balance-tcp')
    case BondModeEnum.UNSPECIFIED:
      return refused('is not given')
    default:
      return refused(`is ${mode}, which is no BondMode`)
  }
}

function parseLacp(lacp: LacpModeEnum): Parsed<LacpMode> {
  switch (lacp) {
    case LacpModeEnum.UNSPECIFIED:
    case LacpModeEnum.OFF:
      return parsed('off')
    case LacpModeEnum.ACTIVE:
      return parsed('active')
    case LacpModeEnum.PASSIVE:
      return parsed('passive')
    default:
      return refused(`is ${lacp}, which is no LacpMode`)
  }
}
