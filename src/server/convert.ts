import type { TapAddress } from '../bridge/address-entry.js'
import { isIpv6 } from '../bridge/address-list.js'
import type { Dependency, Health } from '../bridge/check.js'
import type { Bridge, Tap, TapState } from '../bridge/inventory.js'
import type { TapBacking } from '../bridge/ownership-tap.js'
import type { Recovered } from '../bridge/recovered.js'
import { Bridge as BridgeMessage } from '../gen/ovs/bridge/v1/bridge.js'
import { CheckOvsResponse, Dependency as DependencyMessage, type Recovery } from '../gen/ovs/bridge/v1/check.js'
import {
  type Address as AddressMessage,
  AddressSource,
  TapKind,
  Tap as TapMessage,
  TapState as TapStateEnum,
} from '../gen/ovs/bridge/v1/tap.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import { bondMessage } from './bond.js'
import { qosMessage } from './qos.js'
import { timestamp } from './time.js'

const kinds = {
  tuntap: TapKind.TUNTAP,
  host: TapKind.HOST,
  container: TapKind.CONTAINER,
  adopted: TapKind.ADOPTED,
} satisfies Record<TapBacking['kind'], TapKind>

const states = {
  active: TapStateEnum.ACTIVE,
  detached: TapStateEnum.DETACHED,
  defunct: TapStateEnum.DEFUNCT,
} satisfies Record<TapState, TapStateEnum>

const sources = {
  arp: AddressSource.ARP,
  ndp: AddressSource.NDP,
  dhcp: AddressSource.DHCP,
} satisfies Record<TapAddress['source'], AddressSource>

export function tapMessage(tap: Tap): TapMessage {
  const { backing, addresses } = tap
  return TapMessage.fromPartial({
    name: tap.name,
    bridge: tap.bridge ?? '',
    vlan: tap.vlan,
    mac: tap.mac ?? '',
    kind: kinds[backing.kind],
    state: states[tap.state],
    bond: tap.bond ?? '',
    qinqOuterVlan: tap.qinqOuterVlan,
    qos: qosMessage(tap.qos),
    ovsError: tap.ovsError,
    mtu: tap.mtuBytes,
    ip4: addresses.find(address => !isIpv6(address))?.ip ?? '',
    ip6: addresses.find(isIpv6)?.ip ?? '',
    addresses: addresses.map(addressMessage),
    ...(backing.kind === 'container' && { netns: backing.netns, vethIndex: backing.vethIndex }),
    ...(backing.kind === 'tuntap' && { ownerUid: backing.ownerUid, multiQueue: backing.multiQueue }),
  })
}

export function addressMessage({ ip, mac, vlan, source, lastSeenMs }: TapAddress): AddressMessage {
  return { ip, mac, vlan, source: sources[source], lastSeen: timestamp(lastSeenMs) }
}

/** A filter by kind; UNSPECIFIED stands for all. */
export function parseKind(kind: TapKind): Parsed<TapBacking['kind'] | undefined> {
  switch (kind) {
    case TapKind.UNSPECIFIED:
      return parsed(undefined)
    case TapKind.TUNTAP:
      return parsed('tuntap')
    case TapKind.HOST:
      return parsed('host')
    case TapKind.CONTAINER:
      return parsed('container')
    case TapKind.ADOPTED:
      return parsed('adopted')
    default:
      return refused(`is ${kind}, which is no TapKind`)
  }
}

export function bridgeMessage(bridge: Bridge): BridgeMessage {
  return BridgeMessage.fromPartial({
    name: bridge.name,
    preExist: bridge.preExist,
    vlans: [...bridge.vlans],
    trunks: [...bridge.trunks],
    tunnels: [...bridge.tunnels],
    warnings: [...bridge.warnings],
    config: Object.fromEntries(bridge.config),
    datapathType: bridge.datapathType,
    mirrors: [...bridge.mirrors],
    bonds: bridge.bonds.map(bondMessage),
  })
}

export function healthMessage(health: Health): CheckOvsResponse {
  return CheckOvsResponse.fromPartial({
    ...health,
    datapathTypes: [...health.datapathTypes],
    dependencies: health.dependencies.map((dependency: Dependency) => DependencyMessage.fromPartial(dependency)),
    warnings: [...health.warnings],
    recoveries: health.recoveries.map(recoveryMessage),
  })
}

const toldNames = 100

function recoveryMessage({ occasion, atMs, repaired, failed }: Recovered): Recovery {
  const repairs = Array.from(repaired, ([what, names]) => ({
    what,
    names: names.slice(0, toldNames),
    count: names.length,
  }))
  return { occasion, time: timestamp(atMs), repairs, failed: [...failed] }
}
