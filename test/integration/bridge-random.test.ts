import assert from 'node:assert/strict'
import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { TunnelType } from '../../src/gen/ovs/bridge/v1/uplink.js'
import { laneTest } from '../support/lane.js'
import { createVethPair } from '../support/links.js'
import { addForeignBridge } from '../support/ovs.js'
import { randomFrom } from '../support/random.js'
import { stateOf } from '../support/refusal.js'
import { type Api, blankTap, RpcError } from '../support/rpc.js'
import { startService } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'

const callerCount = 32
const durationMs = 8_000

const taps = Array.from({ length: 12 }, (_, i) => `t${i}`)
/** What is set on one that was there before stays on it. */
const made = ['br0', 'br1']
const bridges = ['br0', 'br0', ...made, 'there']
const bonds = ['bondA', 'bondB']
const trunks = ['up0', 'up1']

/** A call with names that many share. */
type Step = (api: Api, pick: Pick) => Promise<unknown>

type Pick = <T>(items: readonly T[]) => T

const steps: Readonly<Record<string, Step>> = {
  ensure: (api, pick) => api.ensureBridge({ bridge: pick(bridges) }),
  destroy: (api, pick) => api.destroyBridge({ bridge: pick(bridges) }),
  createTap: (api, pick) => api.createTap({ tap: pick(taps), bridge: pick(bridges), vlan: pick([0, 1, 2]) }),
  createTwo: (api, pick) =>
    api.createTaps({ taps: [pick(taps), pick(taps)].map(tap => ({ ...blankTap, tap, bridge: pick(bridges) })) }),
  createHost: (api, pick) => api.createHostTap({ tap: pick(taps), bridge: pick(bridges) }),
  move: (api, pick) => api.moveTap({ tap: pick(taps), bridge: pick(bridges), vlan: pick([0, 1, 2]) }),
  qinq: (api, pick) => api.setTapQinQ({ tap: pick([...taps, ...bonds]), outerVlan: pick([undefined, 100]) }),
  detach: (api, pick) => api.removeTap({ tap: pick(taps) }),
  add: (api, pick) => api.addTap({ tap: pick([...taps, ...trunks]), bridge: pick(bridges) }),
  destroyTap: (api, pick) => api.destroyTap({ tap: pick([...taps, ...trunks]) }),
  reap: api => api.reapTaps(),
  bond: (api, pick) =>
    api.addBond({
      bond: pick(bonds),
      bridge: pick(bridges),
      members: [pick(taps), pick(taps)],
      mode: BondMode.ACTIVE_BACKUP,
    }),
  unbond: (api, pick) => api.deleteBond({ bond: pick(bonds), bridge: pick(bridges) }),
  mirror: (api, pick) =>
    api.createMirror({ bridge: pick(bridges), source: pick(['', ...taps]), destination: pick(taps) }),
  unmirror: (api, pick) => api.destroyMirror({ destination: pick(taps) }),
  trunk: (api, pick) => api.addTrunk({ bridge: pick(bridges), interface: pick(trunks), vlans: pick([[], [1, 2]]) }),
  untrunk: (api, pick) => api.removeTrunk({ bridge: pick(bridges), interface: pick(trunks) }),
  tunnel: (api, pick) =>
    api.addTunnel({ bridge: pick(bridges), type: TunnelType.VXLAN, remoteIp: '10.9.0.2', key: pick(['1', '2', '3']) }),
  untunnel: (api, pick) =>
    api.removeTunnel({ bridge: pick(bridges), interface: `ovsvxlan${pick([...Array(30).keys()])}` }),
  configure: (api, pick) =>
    api.setBridgeConfig({ bridge: pick(made), settings: [`other_config:a=${pick(['1', '2'])}`] }),
  unmanagedTap: (api, pick) => api.destroyUnmanagedTap({ tap: pick(taps) }),
  list: api => api.listBridges(),
  impatient: (api, pick) =>
    api.createTap({ tap: pick(taps), bridge: pick(bridges) }, { timeoutMs: pick([5, 20, 50, 100]) }),
}

/** Few bridges are destroyed, and much is made, or nobody would find any. */
const oftener = new Set(['ensure', 'createTap', 'createHost', 'createTwo', 'bond', 'mirror'])
const often = Object.keys(steps).flatMap(step =>
  step === 'destroy' ? [] : oftener.has(step) ? [step, step, step] : [step],
)

/** What no call of somebody else makes of a call. */
const unexpected: ReadonlySet<string> = new Set([
  'INTERNAL',
  'UNKNOWN',
  'NOT_REALISED',
  'DEVICE_REFUSED',
  'OVSDB_UNAVAILABLE',
])

laneTest(
  'after a storm of calls of every kind nothing of ours is left, and what is of others is as it was',
  { only: 'userspace' },
  async context => {
    const seed = Number(process.env['OVS_BRIDGED_TEST_SEED'] ?? Date.now() % 1_000_000)
    context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
    await using bed = await startTestbed(context.signal)
    await addForeignBridge(bed.ovs, 'there', [{ name: 'theirs', type: 'internal', tag: 5 }])
    for (const name of trunks) createVethPair({ name }, { name }, bed.createContainer())
    const before = await stateOf(bed)
    await using service = await startService(bed)
    const { api } = service
    for (const bridge of bridges) await api.ensureBridge({ bridge })
    const deadline = performance.now() + durationMs
    let calls = 0
    const work = async (caller: number) => {
      const random = randomFrom(seed * callerCount + caller)
      const pick: Pick = items => {
        for (const item of items.slice(Math.floor(random() * items.length))) return item
        throw new RangeError('nothing to pick from')
      }
      while (performance.now() < deadline) {
        const name = random() < 0.004 ? 'destroy' : pick(often)
        const { reason, message } = await outcomeOf(steps[name]?.(api, pick))
        assert(!unexpected.has(reason), `${name}: ${reason} ${message}`)
        calls++
      }
    }
    await Promise.all(Array.from({ length: callerCount }, (_, caller) => work(caller)))
    context.diagnostic(`${calls} calls`)
    await api.destroyAllBridges()
    for (const { name: tap } of (await api.listTaps()).taps) await api.destroyTap({ tap })
    await api.reapTaps()
    assert.deepEqual(await stateOf(bed), before)
  },
)

/** The reason of a refusal, or the status where there is none: a client's own deadline has none. */
async function outcomeOf(
  call: Promise<unknown> | undefined,
): Promise<{ readonly reason: string; readonly message: string }> {
  try {
    await call
    return { reason: 'done', message: '' }
  } catch (error) {
    if (!(error instanceof RpcError)) throw error
    return { reason: error.reason === '' ? error.code : error.reason, message: error.message }
  }
}
