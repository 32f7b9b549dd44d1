import type { Qos } from '../../src/gen/ovs/bridge/v1/qos.js'
import type { TunnelType } from '../../src/gen/ovs/bridge/v1/uplink.js'
import type { Choices } from './random.js'
import type { Api } from './rpc.js'

/** A bridge of somebody else's that all callers put taps on; only the last call of all lets go of it. */
export const sharedBridge = 'there'
/** A bridge of somebody else's that carries the ports to be taken over. */
export const lendingBridge = 'apart'

export type OwnedKind = 'tuntap' | 'host' | 'container' | 'adopted'

export interface OwnedTap {
  readonly kind: OwnedKind
  /** '' while it is detached. */
  readonly bridge: string
  readonly vlan: number
  readonly qinq: number | undefined
  /** Towards the endpoint; what is not set is absent. */
  readonly qos: Qos
  /** From the endpoint; '' for none. */
  readonly policed: string
}

export interface OwnedBond {
  /** Sorted. */
  readonly members: readonly string[]
  readonly vlan: number | undefined
  readonly qinq: number | undefined
}

export interface OwnedBridge {
  readonly config: string
  /** VLANs of the trunk that there is. */
  readonly trunk: readonly number[] | undefined
  readonly tunnel: TunnelType | undefined
  readonly bond: OwnedBond | undefined
  /** Destination first, then source; '' is the whole bridge. */
  readonly mirror: readonly [string, string] | undefined
  /** Timeout in seconds. */
  readonly netflow: { readonly timeoutS: number; readonly writers: readonly string[] } | undefined
}

/** What one caller has made, and nobody else touches. */
export interface Owned {
  readonly bridge: OwnedBridge | undefined
  readonly taps: Readonly<Record<string, OwnedTap>>
  /** What is there of what others have lent, while it is no tap: port and device, the device alone, or nothing. */
  readonly lent: 'port' | 'device' | 'nothing'
  /** Whether the bridge is there that somebody else has left behind. */
  readonly hasStray: boolean
}

export const nothing: Owned = { bridge: undefined, taps: {}, lent: 'port', hasStray: true }

/** Somebody who works on names of its own. */
export interface Caller {
  readonly number: number
  readonly choices: Choices
  /** Path of the namespace that its container tap reaches into. */
  readonly netns: string
  /** Streams that are read no further. */
  readonly streams: Set<Disposable>
}

type Numbered = Pick<Caller, 'number'>

export const bridgeNameOf = ({ number }: Numbered) => `own${number}`
/** A bridge of somebody else's that nobody minds. */
export const strayBridgeOf = ({ number }: Numbered) => `x${number}`
export const bondNameOf = ({ number }: Numbered) => `bond${number}`
/** Devices that the test has made: to be adopted, to be a trunk, and one that is a port of somebody else's. */
export const devicesOf = ({ number }: Numbered) => ({
  adopted: `a${number}`,
  trunk: `k${number}`,
  lent: `f${number}`,
})
export const namesOf = ({ number }: Numbered): Readonly<Record<OwnedKind, readonly string[]>> => ({
  tuntap: ['p', 'q', 'r', 's'].map(letter => `${letter}${number}`),
  host: [`h${number}`],
  container: [`c${number}`],
  adopted: [devicesOf({ number }).adopted, devicesOf({ number }).lent],
})
export const tapNamesOf = (caller: Numbered) => Object.values(namesOf(caller)).flat()
export const remoteIpOf = ({ number }: Numbered) => `10.9.0.${number + 1}`

/** A call, with what is there once it was acknowledged. */
export interface Planned {
  call(api: Api): Promise<unknown>
  readonly after: Owned
  /** What may be there as well when it was not acknowledged, of a call on what is not recorded as ours. */
  readonly halfway?: Owned
}

/** What a caller may do with what it has; undefined: nothing of this kind. */
export type Plan = (caller: Caller, owned: Owned) => Planned | undefined

export const vlans = [0, 1, 2, 3]

export function withTaps(owned: Owned, taps: Owned['taps']): Owned {
  return { ...owned, taps: { ...owned.taps, ...taps } }
}

/** Without a tap, and what it was an end or a member of. */
export function withoutTap(owned: Owned, name: string): Owned {
  const taps = Object.fromEntries(Object.entries(owned.taps).filter(([other]) => other !== name))
  if (owned.bridge === undefined) return { ...owned, taps }
  const { bond, mirror } = owned.bridge
  const left = bond?.members.filter(member => member !== name) ?? []
  return {
    ...owned,
    taps,
    bridge: {
      ...owned.bridge,
      bond: bond && left.length > 0 ? { ...bond, members: left } : undefined,
      mirror: mirror?.includes(name) === true ? undefined : mirror,
    },
  }
}

/** Without the bridge of that name, which takes its taps along. */
export function withoutBridge(owned: Owned, caller: Caller, name: string): Owned {
  const taps = Object.fromEntries(Object.entries(owned.taps).filter(([, tap]) => tap.bridge !== name))
  return { ...owned, bridge: name === bridgeNameOf(caller) ? undefined : owned.bridge, taps }
}

/** Taps on a bridge that neither bond nor mirror holds. */
export function heldBy(owned: Owned, bridge: string): readonly string[] {
  return Object.keys(owned.taps).filter(name => owned.taps[name]?.bridge === bridge && !isHeld(owned, name))
}

export function isHeld({ bridge }: Owned, tap: string): boolean {
  return bridge?.bond?.members.includes(tap) === true || bridge?.mirror?.includes(tap) === true
}

/** A bridge to put a tap on. */
export function somewhere(caller: Caller, owned: Owned): string {
  return owned.bridge === undefined ? sharedBridge : caller.choices.pick([bridgeNameOf(caller), sharedBridge])
}
