import { type Qos, QosDirection } from '../../src/gen/ovs/bridge/v1/qos.js'
import { ofTap } from './captured.js'
import {
  type Caller,
  devicesOf,
  isHeld,
  namesOf,
  type Owned,
  type OwnedKind,
  type OwnedTap,
  type Plan,
  type Planned,
  somewhere,
  vlans,
  withoutTap,
  withTaps,
} from './crash-owned.js'
import { lane } from './lane.js'
import { setOf } from './qos.js'
import type { Api } from './rpc.js'

/** The kernel of the userspace lane may be without netem. */
const shapes: readonly Qos[] =
  lane === 'userspace'
    ? [{}, { rate: '10mbit' }, { rate: '20mbit' }]
    : [
        {},
        { rate: '10mbit' },
        { rate: '20mbit', delay: '5ms' },
        { delay: '5ms', jitter: '1ms', loss: '1%', duplicate: '2%', corrupt: '3%', reorder: '4%' },
      ]

/** Each kind of call on taps. */
export const tapPlans: Readonly<Record<string, Plan>> = {
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
  destroyUnmanaged: (caller, owned) => {
    const { lent: tap } = devicesOf(caller)
    if (owned.lent === 'nothing' || owned.taps[tap] !== undefined || !caller.choices.chance(0.3)) return undefined
    return {
      call: api => api.destroyUnmanagedTap({ tap }),
      after: { ...owned, lent: 'nothing' },
      halfway: { ...owned, lent: 'device' },
    }
  },
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
  rate: onFreeTap((tap, caller, _owned, name) => {
    if (tap.kind === 'host') return undefined
    const rate = caller.choices.pick(['', '10mbit', '20mbit'])
    const qos = setOf({ ...tap.qos, rate: rate || undefined })
    return { call: api => api.updateQos({ tap: name, qos: { rate } }), tap: { ...tap, qos } }
  }),
  shape: onFreeTap((tap, caller, _owned, name) => {
    if (tap.kind === 'host') return undefined
    const qos = caller.choices.pick(shapes)
    return { call: api => api.updateQos({ tap: name, qos, replace: true }), tap: { ...tap, qos } }
  }),
  police: onFreeTap((tap, caller, _owned, name) => {
    // The userspace datapath cannot.
    if (tap.kind === 'host' || lane === 'userspace') return undefined
    const policed = caller.choices.pick(['', '30mbit', '40mbit'])
    const request = { tap: name, qos: { rate: policed }, direction: QosDirection.FROM_ENDPOINT }
    return { call: api => api.updateQos(request), tap: { ...tap, policed } }
  }),
  removeQos: onFreeTap((tap, _caller, _owned, name) =>
    tap.kind === 'host'
      ? undefined
      : { call: api => api.removeQos({ tap: name }), tap: { ...tap, qos: {}, policed: '' } },
  ),
  destroyTap: (caller, owned) => {
    const names = Object.keys(owned.taps)
    if (names.length === 0) return undefined
    const name = caller.choices.pick(names)
    return { call: api => api.destroyTap({ tap: name }), after: withoutTap(owned, name) }
  },
  reserve: (_caller, owned) => ({ call: api => api.reserveTapName(), after: owned }),
  reap: (_caller, owned) => ({ call: api => api.reapTaps(), after: owned }),
  // Those of other callers too.
  stopCaptures: (caller, owned) =>
    caller.choices.chance(0.1) ? { call: api => api.stopAllCaptures(), after: owned } : undefined,
  captureTap: onFreeTap((tap, _caller, _owned, name) =>
    tap.bridge === '' ? undefined : { call: api => startCapture(api, ofTap(name)), tap },
  ),
  streamTap: onFreeTap((tap, caller, _owned, name) =>
    tap.bridge === '' ? undefined : { call: api => openStream(api, { taps: [name] }, caller), tap },
  ),
}

/** Captures last no longer than the daemon; some are left running for it to be killed over. */
export async function startCapture(api: Api, target: ReturnType<typeof ofTap>): Promise<void> {
  const { capture } = await api.startCapture({ ...target, maxPackets: 1_000n })
  if (capture !== undefined && capture.id % 4 !== 0) await api.stopCapture({ id: capture.id })
}

/** A stream of packets of which the head has come; some stay open. */
export async function openStream(
  api: Api,
  of: { readonly taps: string[] } | { readonly bridge: string },
  { streams, choices }: Caller,
): Promise<void> {
  const stream = api.streamCapture(of)
  streams.add(stream)
  await stream.next('the head of a stream')
  if (choices.chance(0.75)) stream[Symbol.dispose]()
}

function plainTap(kind: OwnedKind, bridge: string): OwnedTap {
  return { kind, bridge, vlan: 0, qinq: undefined, qos: {}, policed: '' }
}

function create(caller: Caller, owned: Owned, kind: OwnedKind): Planned | undefined {
  const free = freeNames(caller, owned, kind)
  if (free.length === 0) return undefined
  const name = caller.choices.pick(free)
  const bridge = somewhere(caller, owned)
  const qos = kind === 'tuntap' || kind === 'container' ? caller.choices.pick(shapes) : {}
  const tap = { ...plainTap(kind, bridge), vlan: caller.choices.pick(vlans), qos }
  const placed = { tap: name, bridge, vlan: tap.vlan }
  const call = (api: Api) => {
    switch (kind) {
      case 'tuntap':
        return api.createTap({ ...placed, qos })
      case 'host':
        return api.createHostTap(placed)
      case 'container':
        return api.createContainerTap({ ...placed, qos, netns: caller.netns, vethIndex: caller.number })
      case 'adopted':
        return api.addTap(placed)
    }
  }
  // Once it is a tap its port is ours, and goes with it.
  const lent = name === devicesOf(caller).lent ? 'device' : owned.lent
  return { call, after: { ...withTaps(owned, { [name]: tap }), lent } }
}

function freeNames(caller: Caller, owned: Owned, kind: OwnedKind): readonly string[] {
  const isThere = (name: string) => name !== devicesOf(caller).lent || owned.lent !== 'nothing'
  return namesOf(caller)[kind].filter(name => owned.taps[name] === undefined && isThere(name))
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
