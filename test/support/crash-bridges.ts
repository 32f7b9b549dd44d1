import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { NetflowFormat } from '../../src/gen/ovs/bridge/v1/netflow.js'
import { TunnelType } from '../../src/gen/ovs/bridge/v1/uplink.js'
import { ofBridge } from './captured.js'
import {
  bondNameOf,
  bridgeNameOf,
  type Caller,
  devicesOf,
  heldBy,
  type Owned,
  type OwnedBridge,
  type Plan,
  remoteIpOf,
  strayBridgeOf,
  withoutBridge,
} from './crash-owned.js'
import { openStream, startCapture } from './crash-taps.js'
import { seconds } from './netflow.js'
import type { Api } from './rpc.js'

export const bareBridge: OwnedBridge = {
  config: '',
  trunk: undefined,
  tunnel: undefined,
  bond: undefined,
  mirror: undefined,
  netflow: undefined,
}

/** Each kind of call on a bridge, and on what is on it beside taps. */
export const bridgePlans: Readonly<Record<string, Plan>> = {
  ensureBridge: (caller, owned) => {
    if (owned.bridge !== undefined) return undefined
    return { call: api => api.ensureBridge({ bridge: bridgeNameOf(caller) }), after: { ...owned, bridge: bareBridge } }
  },
  destroyBridge: (caller, owned) => {
    const name = bridgeNameOf(caller)
    if (owned.bridge === undefined || !caller.choices.chance(0.1)) return undefined
    return { call: api => api.destroyBridge({ bridge: name }), after: withoutBridge(owned, caller, name) }
  },
  destroyUnmanagedBridge: (caller, owned) => {
    if (!owned.hasStray || !caller.choices.chance(0.3)) return undefined
    const request = { bridge: strayBridgeOf(caller) }
    return { call: api => api.destroyUnmanagedBridge(request), after: { ...owned, hasStray: false } }
  },
  configure: onBridge((bridge, caller, name) => {
    const value = caller.choices.pick(['1', '2', '3'])
    const settings = [`other_config:crash=${value}`]
    return { call: api => api.setBridgeConfig({ bridge: name, settings }), bridge: { ...bridge, config: value } }
  }),
  bond: onBridge((bridge, caller, name, owned) => {
    const [one, two] = heldBy(owned, name).filter(tap => owned.taps[tap]?.kind === 'tuntap')
    if (bridge.bond !== undefined || one === undefined || two === undefined) return undefined
    const members = [one, two].sort()
    const vlan = caller.choices.pick([undefined, 0, 5])
    const request = { bridge: name, bond: bondNameOf(caller), members, mode: BondMode.ACTIVE_BACKUP, vlan }
    return { call: api => api.addBond(request), bridge: { ...bridge, bond: { members, vlan, qinq: undefined } } }
  }),
  bondQinq: onBridge((bridge, caller) => {
    if (bridge.bond === undefined) return undefined
    const qinq = caller.choices.pick([undefined, 100, 200])
    const call = (api: Api) => api.setTapQinQ({ tap: bondNameOf(caller), outerVlan: qinq })
    return { call, bridge: { ...bridge, bond: { ...bridge.bond, qinq } } }
  }),
  unbond: onBridge((bridge, caller, name) => {
    if (bridge.bond === undefined) return undefined
    const call = (api: Api) => api.deleteBond({ bridge: name, bond: bondNameOf(caller) })
    return { call, bridge: { ...bridge, bond: undefined } }
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
    const trunk = bridge.trunk === undefined ? caller.choices.pick([[], [1, 2]]) : undefined
    const call = (api: Api) => (trunk === undefined ? api.removeTrunk(on) : api.addTrunk({ ...on, vlans: trunk }))
    return { call, bridge: { ...bridge, trunk } }
  }),
  tunnel: onBridge((bridge, caller, name) => {
    if (bridge.tunnel !== undefined) return undefined
    const type = caller.choices.pick([TunnelType.VXLAN, TunnelType.GRE, TunnelType.GENEVE])
    const remote = { remoteIp: remoteIpOf(caller), key: String(caller.number) }
    return { call: api => api.addTunnel({ bridge: name, type, ...remote }), bridge: { ...bridge, tunnel: type } }
  }),
  untunnel: onBridge((bridge, _caller, name) => {
    if (bridge.tunnel === undefined) return undefined
    const call = async (api: Api) => {
      const interfaces = (await api.getBridge({ bridge: name })).bridge?.tunnels ?? []
      await Promise.all(interfaces.map(tunnel => api.removeTunnel({ bridge: name, interface: tunnel })))
    }
    return { call, bridge: { ...bridge, tunnel: undefined } }
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
  writer: onBridge((bridge, caller, name) => {
    if (bridge.netflow === undefined) return undefined
    // Over a file that is there already none is written.
    const file = `file:flows-${caller.number}-${caller.choices.below(1_000_000_000)}`
    const [former] = bridge.netflow.writers
    const writer = former ?? caller.choices.pick(['udp:127.0.0.1:9', file])
    const on = { bridge: name, writer }
    const call = (api: Api) =>
      former === undefined ? api.addNetflowWriter({ ...on, format: NetflowFormat.RAW }) : api.removeNetflowWriter(on)
    const writers = former === undefined ? [writer] : []
    return { call, bridge: { ...bridge, netflow: { ...bridge.netflow, writers } } }
  }),
  captureBridge: onBridge((bridge, _caller, name) => ({ call: api => startCapture(api, ofBridge(name)), bridge })),
  streamBridge: onBridge((bridge, caller, name) => ({
    call: api => openStream(api, { bridge: name }, caller),
    bridge,
  })),
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
