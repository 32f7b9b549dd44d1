import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { NetflowFormat } from '../../src/gen/ovs/bridge/v1/netflow.js'
import { QosDirection } from '../../src/gen/ovs/bridge/v1/qos.js'
import { TunnelType } from '../../src/gen/ovs/bridge/v1/uplink.js'
import { ofBridge, ofTap } from './captured.js'
import { lane } from './lane.js'
import { seconds } from './netflow.js'
import type { Choices } from './random.js'
import type { Api } from './rpc.js'

/** A bridge that all callers put taps on, and that is never destroyed. */
export const sharedBridge = 'br0'

export type OwnedKind = 'tuntap' | 'host' | 'container' | 'adopted'

export interface OwnedTap {
  readonly kind: OwnedKind
  /** '' while it is detached. */
  readonly bridge: string
  readonly vlan: number
  readonly qinq: number | undefined
  /** Towards the endpoint; '' for none. */
  readonly rate: string
  /** From the endpoint; '' for none. */
  readonly policed: string
}

export interface OwnedBridge {
  readonly config: string
  readonly hasTrunk: boolean
  readonly tunnelCount: number
  /** Members of the bond that there is. */
  readonly bond: readonly string[]
  /** Destination first, then source; '' is the whole bridge. */
  readonly mirror: readonly [string, string] | undefined
  /** Timeout in seconds. */
  readonly netflow: { readonly timeoutS: number; readonly writers: readonly string[] } | undefined
}

/** What one caller has made, and nobody else touches. */
export interface Owned {
  readonly bridge: OwnedBridge | undefined
  readonly taps: Readonly<Record<string, OwnedTap>>
}

export const nothing: Owned = { bridge: undefined, taps: {} }

/** Somebody who works on names of its own. */
export interface Caller {
  readonly number: number
  readonly choices: Choices
  /** Path of the namespace that its container tap reaches into. */
  readonly netns: string
}

export const bridgeNameOf = (caller: Caller) => `own${caller.number}`
export const bondNameOf = (caller: Caller) => `bond${caller.number}`
/** Devices that the test has made: one to be adopted, one to be a trunk. */
export const devicesOf = ({ number }: Pick<Caller, 'number'>) => ({ adopted: `a${number}`, trunk: `k${number}` })
const namesOf = ({ number }: Caller) => ({
  tuntap: ['p', 'q', 'r', 's'].map(letter => `${letter}${number}`),
  host: [`h${number}`],
  container: [`c${number}`],
  adopted: [devicesOf({ number }).adopted],
})
export const tapNamesOf = (caller: Caller) => Object.values(namesOf(caller)).flat()

/** A call, with what is there once it was acknowledged. */
export interface Planned {
  call(api: Api): Promise<unknown>
  readonly after: Owned
}

/** What a caller may do with what it has; undefined: nothing of this kind. */
type Plan = (caller: Caller, owned: Owned) => Planned | undefined

const vlans = [0, 1, 2, 3]

const plans: Readonly<Record<string, Plan>> = {
  ensureBridge: (caller, owned) => {
    if (owned.bridge !== undefined) return undefined
    const bridge = { config: '', hasTrunk: false, tunnelCount: 0, bond: [], mirror: undefined, netflow: undefined }
    return { call: api => api.ensureBridge({ bridge: bridgeNameOf(caller) }), after: { ...owned, bridge } }
  },
  destroyBridge: (caller, owned) => {
    const name = bridgeNameOf(caller)
    if (owned.bridge === undefined || !caller.choices.chance(0.1)) return undefined
    const taps = Object.fromEntries(Object.entries(owned.taps).filter(([, tap]) => tap.bridge !== name))
    return { call: api => api.destroyBridge({ bridge: name }), after: { bridge: undefined, taps } }
  },
  configure: onBridge((bridge, caller, name) => {
    const value = caller.choices.pick(['1', '2', '3'])
    const settings = [`other_config:crash=${value}`]
    return { call: api => api.setBridgeConfig({ bridge: name, settings }), bridge: { ...bridge, config: value } }
  }),
  create: (caller, owned) => create(caller, owned, 'tuntap'),
  createTwo: (caller, owned) => {
    const [one, two] = freeNames(caller, owned, 'tuntap')
    if (one === undefined || two === undefined) return undefined
    const bridge = somewhere(caller, owned)
    const tap = { ...plainTap('tuntap', bridge), vlan: caller.choices.pick(vlans) }
    const spec = { bridge, mac: '', vlan: tap.vlan, mtu: 0, multiQueue: false }
    const taps = [one, two].map(name => ({ ...spec, tap: name }))
    return { call: api => api.createTaps({ taps }), after: withTaps(owned, { [one]: tap, [two]: tap }) }
  },
  createHost: (caller, owned) => create(caller, owned, 'host'),
  createContainer: (caller, owned) => create(caller, owned, 'container'),
  adopt: (caller, owned) => create(caller, owned, 'adopted'),
  move: onFreeTap((tap, caller, owned, name) => {
    if (tap.bridge === '') return undefined
    const [bridge, vlan] = [somewhere(caller, owned), caller.choices.pick(vlans)]
    return { call: api => api.moveTap({ tap: name, bridge, vlan }), tap: { ...tap, bridge, vlan } }
  }),
  detach: onFreeTap((tap, _caller, _owned, name) =>
    tap.bridge === '' ? undefined : { call: api => api.removeTap({ tap: name }), tap: { ...tap, bridge: '' } },
  ),
  attach: onFreeTap((tap, caller, owned, name) => {
    if (tap.bridge !== '') return undefined
    const [bridge, vlan] = [somewhere(caller, owned), caller.choices.pick(vlans)]
    return { call: api => api.addTap({ tap: name, bridge, vlan }), tap: { ...tap, bridge, vlan } }
  }),
  qinq: onFreeTap((tap, caller, _owned, name) => {
    const qinq = caller.choices.pick([0, 100, 200]) || undefined
    return { call: api => api.setTapQinQ({ tap: name, outerVlan: qinq }), tap: { ...tap, qinq } }
  }),
  qos: onFreeTap((tap, caller, _owned, name) => {
    if (tap.kind === 'host') return undefined
    const rate = caller.choices.pick(['', '10mbit', '20mbit'])
    return { call: api => api.updateQos({ tap: name, qos: { rate } }), tap: { ...tap, rate } }
  }),
  police: onFreeTap((tap, caller, _owned, name) => {
    // The userspace datapath cannot.
    if (tap.kind === 'host' || tap.bridge === '' || lane === 'userspace') return undefined
    const policed = caller.choices.pick(['', '30mbit'])
    const request = { tap: name, qos: { rate: policed }, direction: QosDirection.FROM_ENDPOINT }
    return { call: api => api.updateQos(request), tap: { ...tap, policed } }
  }),
  destroyTap: (caller, owned) => {
    const names = Object.keys(owned.taps)
    if (names.length === 0) return undefined
    const name = caller.choices.pick(names)
    return { call: api => api.destroyTap({ tap: name }), after: withoutTap(owned, name) }
  },
  reap: (_caller, owned) => ({ call: api => api.reapTaps(), after: owned }),
  bond: onBridge((bridge, caller, name, owned) => {
    const [one, two] = heldBy(owned, name).filter(tap => owned.taps[tap]?.kind === 'tuntap')
    if (bridge.bond.length > 0 || one === undefined || two === undefined) return undefined
    const members = [one, two].sort()
    const request = { bridge: name, bond: bondNameOf(caller), members, mode: BondMode.ACTIVE_BACKUP }
    return { call: api => api.addBond(request), bridge: { ...bridge, bond: members } }
  }),
  unbond: onBridge((bridge, caller, name) => {
    if (bridge.bond.length === 0) return undefined
    return {
      call: api => api.deleteBond({ bridge: name, bond: bondNameOf(caller) }),
      bridge: { ...bridge, bond: [] },
    }
  }),
  mirror: onBridge((bridge, caller, name, owned) => {
    const [destination, other = ''] = heldBy(owned, name)
    if (bridge.mirror !== undefined || destination === undefined) return undefined
    const source = caller.choices.pick(['', other])
    const call = (api: Api) => api.createMirror({ bridge: name, source, destination })
    return { call, bridge: { ...bridge, mirror: [destination, source] } }
  }),
  unmirror: onBridge(bridge => {
    const [destination] = bridge.mirror ?? []
    if (destination === undefined) return undefined
    return { call: api => api.destroyMirror({ destination }), bridge: { ...bridge, mirror: undefined } }
  }),
  trunk: onBridge((bridge, caller, name) => {
    const on = { bridge: name, interface: devicesOf(caller).trunk }
    const call = (api: Api) => (bridge.hasTrunk ? api.removeTrunk(on) : api.addTrunk({ ...on, vlans: [1, 2] }))
    return { call, bridge: { ...bridge, hasTrunk: !bridge.hasTrunk } }
  }),
  tunnel: onBridge((bridge, caller, name) => {
    if (bridge.tunnelCount > 0) return undefined
    const remote = { remoteIp: `10.9.0.${caller.number + 1}`, key: String(caller.number) }
    const call = (api: Api) => api.addTunnel({ bridge: name, type: TunnelType.VXLAN, ...remote })
    return { call, bridge: { ...bridge, tunnelCount: 1 } }
  }),
  untunnel: onBridge((bridge, _caller, name) => {
    if (bridge.tunnelCount === 0) return undefined
    const call = async (api: Api) => {
      const interfaces = (await api.getBridge({ bridge: name })).bridge?.tunnels ?? []
      await Promise.all(interfaces.map(tunnel => api.removeTunnel({ bridge: name, interface: tunnel })))
    }
    return { call, bridge: { ...bridge, tunnelCount: 0 } }
  }),
  netflow: onBridge((bridge, caller, name) => {
    const timeoutS = caller.choices.pick([1, 5, 10])
    const request = { bridge: name, activeTimeout: seconds(timeoutS) }
    const { netflow } = bridge
    const call = (api: Api) => (netflow === undefined ? api.createNetflow(request) : api.setNetflowTimeout(request))
    return { call, bridge: { ...bridge, netflow: { writers: netflow?.writers ?? [], timeoutS } } }
  }),
  unnetflow: onBridge((bridge, _caller, name) => {
    if (bridge.netflow === undefined) return undefined
    return { call: api => api.destroyNetflow({ bridge: name }), bridge: { ...bridge, netflow: undefined } }
  }),
  writer: onBridge((bridge, _caller, name) => {
    if (bridge.netflow === undefined) return undefined
    const writer = 'udp:127.0.0.1:9'
    const { writers } = bridge.netflow
    const on = { bridge: name, writer }
    const call = (api: Api) =>
      writers.length > 0 ? api.removeNetflowWriter(on) : api.addNetflowWriter({ ...on, format: NetflowFormat.RAW })
    return { call, bridge: { ...bridge, netflow: { ...bridge.netflow, writers: writers.length > 0 ? [] : [writer] } } }
  }),
  captureTap: onFreeTap((tap, _caller, _owned, name) =>
    tap.bridge === '' ? undefined : { call: api => startCapture(api, ofTap(name)), tap },
  ),
  captureBridge: onBridge((bridge, _caller, name) => ({ call: api => startCapture(api, ofBridge(name)), bridge })),
}

/** Much is made, or nobody would find any. */
const oftener = ['ensureBridge', 'create', 'create', 'createTwo', 'createHost', 'createContainer', 'adopt']

/** The next call of a caller, with the name of its kind. */
export function plan(caller: Caller, owned: Owned): Planned & { readonly kind: string } {
  for (;;) {
    const kind = caller.choices.pick([...Object.keys(plans), ...oftener])
    const planned = plans[kind]?.(caller, owned)
    if (planned !== undefined) return { ...planned, kind }
  }
}

/** Captures last no longer than the daemon; some are left running for it to be killed over. */
async function startCapture(api: Api, target: ReturnType<typeof ofTap>): Promise<void> {
  const { capture } = await api.startCapture({ ...target, maxPackets: 1_000n })
  if (capture !== undefined && capture.id % 4 !== 0) await api.stopCapture({ id: capture.id })
}

function plainTap(kind: OwnedKind, bridge: string): OwnedTap {
  return { kind, bridge, vlan: 0, qinq: undefined, rate: '', policed: '' }
}

function create(caller: Caller, owned: Owned, kind: OwnedKind): Planned | undefined {
  const [name] = freeNames(caller, owned, kind)
  if (name === undefined) return undefined
  const bridge = somewhere(caller, owned)
  const rate = caller.choices.pick(kind === 'tuntap' || kind === 'container' ? ['', '10mbit'] : [''])
  const tap = { ...plainTap(kind, bridge), vlan: caller.choices.pick(vlans), rate }
  const placed = { tap: name, bridge, vlan: tap.vlan }
  const shaped = { ...placed, qos: { rate } }
  const call = (api: Api) => {
    switch (kind) {
      case 'tuntap':
        return api.createTap(shaped)
      case 'host':
        return api.createHostTap(placed)
      case 'container':
        return api.createContainerTap({ ...shaped, netns: caller.netns, vethIndex: caller.number })
      case 'adopted':
        return api.addTap(placed)
    }
  }
  return { call, after: withTaps(owned, { [name]: tap }) }
}

function freeNames(caller: Caller, owned: Owned, kind: OwnedKind): readonly string[] {
  return namesOf(caller)[kind].filter(name => owned.taps[name] === undefined)
}

function somewhere(caller: Caller, owned: Owned): string {
  return owned.bridge === undefined ? sharedBridge : caller.choices.pick([bridgeNameOf(caller), sharedBridge])
}

function withTaps(owned: Owned, taps: Owned['taps']): Owned {
  return { ...owned, taps: { ...owned.taps, ...taps } }
}

/** Without a tap, and what it was an end or a member of. */
function withoutTap(owned: Owned, name: string): Owned {
  const taps = Object.fromEntries(Object.entries(owned.taps).filter(([other]) => other !== name))
  if (owned.bridge === undefined) return { ...owned, taps }
  const { bond, mirror } = owned.bridge
  const ended = mirror?.includes(name) === true ? undefined : mirror
  return { taps, bridge: { ...owned.bridge, bond: bond.filter(member => member !== name), mirror: ended } }
}

/** Taps on a bridge that neither bond nor mirror holds. */
function heldBy(owned: Owned, bridge: string): readonly string[] {
  return Object.keys(owned.taps).filter(name => owned.taps[name]?.bridge === bridge && !isHeld(owned, name))
}

function isHeld({ bridge }: Owned, tap: string): boolean {
  return bridge?.bond.includes(tap) === true || bridge?.mirror?.includes(tap) === true
}

interface OfBridge {
  call(api: Api): Promise<unknown>
  readonly bridge: OwnedBridge
}

function onBridge(
  change: (bridge: OwnedBridge, caller: Caller, name: string, owned: Owned) => OfBridge | undefined,
): Plan {
  return (caller, owned) => {
    const changed = owned.bridge && change(owned.bridge, caller, bridgeNameOf(caller), owned)
    return changed && { call: changed.call, after: { ...owned, bridge: changed.bridge } }
  }
}

interface OfTap {
  call(api: Api): Promise<unknown>
  readonly tap: OwnedTap
}

function onFreeTap(change: (tap: OwnedTap, caller: Caller, owned: Owned, name: string) => OfTap | undefined): Plan {
  return (caller, owned) => {
    const names = Object.keys(owned.taps).filter(name => !isHeld(owned, name))
    if (names.length === 0) return undefined
    const name = caller.choices.pick(names)
    const tap = owned.taps[name]
    const changed = tap && change(tap, caller, owned, name)
    return changed && { call: changed.call, after: withTaps(owned, { [name]: changed.tap }) }
  }
}
