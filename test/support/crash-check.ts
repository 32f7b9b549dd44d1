import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import type { Bridge } from '../../src/gen/ovs/bridge/v1/bridge.js'
import { type Tap, TapKind } from '../../src/gen/ovs/bridge/v1/tap.js'
import {
  bondNameOf,
  bridgeNameOf,
  type Caller,
  devicesOf,
  nothing,
  type Owned,
  type OwnedBridge,
  type OwnedKind,
  strayBridgeOf,
  tapNamesOf,
} from './crash-owned.js'
import { assertWhole } from './crash-whole.js'
import { lane } from './lane.js'
import { linkNames } from './namespace.js'
import type { PrivateOvs } from './ovs.js'
import { setOf } from './qos.js'
import { type Api, RpcError } from './rpc.js'

/** A caller with all that its world may be, the latest first: more than one while a call was not acknowledged. */
export interface Belief {
  readonly caller: Caller
  readonly possible: readonly Owned[]
  /** The call that nobody knows the outcome of. */
  readonly pending: string
}

/**
 * Which of what each caller holds possible the service shows, once Open vSwitch and the kernel have exactly that and
 * nothing else of ours. Throws when it is none of them, or something is missing or left.
 */
export async function settledOn(beliefs: readonly Belief[], api: Api, ovs: PrivateOvs): Promise<readonly Owned[]> {
  const [taps, bridges] = [await allTaps(api), (await api.listBridges()).bridges]
  const ports = (await ovs.select('Port')).map(row => String(row['name']))
  const there = { taps, bridges, ports: new Set(ports), links: new Set(linkNames()) }
  const holdings = await Promise.all(
    beliefs.map(async belief => ({ caller: belief.caller, owned: await matching(belief, api, there) })),
  )
  await assertWhole(holdings, api, ovs)
  return holdings.map(({ owned }) => owned)
}

/** Kinds of repair that a call which was acknowledged leaves nothing for. */
const ofUnfinished: ReadonlySet<string> = new Set([
  'orphan_device',
  'lost_row',
  'tap_device',
  'bond_vlan',
  'host_tap',
  'half_open_port',
  'tap_qos',
])

/**
 * What a daemon has put right at its start is of the calls that were not acknowledged: what the others had made was whole
 * already, and not only since.
 */
export async function assertOnlyUnfinished(beliefs: readonly Belief[], api: Api): Promise<void> {
  const unfinished = new Set(beliefs.flatMap(touched))
  const { recoveries } = await api.checkOvs()
  const others = recoveries
    .flatMap(({ repairs }) => repairs)
    .filter(({ what }) => ofUnfinished.has(what))
    .flatMap(({ what, names }) => names.filter(name => !unfinished.has(name)).map(name => `${what} ${name}`))
  assert.deepEqual(others, [], `put right beside what ${beliefs.map(({ pending }) => pending).join(', ')} left`)
}

/** What a call that was not acknowledged was about: a tap that it would have changed has another object. */
function touched({ caller, possible: [after, before] }: Belief): readonly string[] {
  if (after === undefined || before === undefined) return []
  const names = tapNamesOf(caller).filter(name => after.taps[name] !== before.taps[name])
  if (after.bridge === before.bridge) return names
  const held = [after.bridge, before.bridge].flatMap(bridge => [
    ...(bridge?.bond?.members ?? []),
    ...(bridge?.mirror ?? []),
  ])
  return [...names, ...held, devicesOf(caller).trunk, bridgeNameOf(caller), bondNameOf(caller)]
}

export async function allTaps(api: Api): Promise<readonly Tap[]> {
  const taps: Tap[] = []
  for (let pageToken = ''; ; ) {
    const page = await api.listTaps({ pageToken, pageSize: 100 })
    taps.push(...page.taps)
    pageToken = page.nextPageToken
    if (pageToken === '') return taps
  }
}

/** What the service lists, and what is there. */
interface There {
  readonly taps: readonly Tap[]
  readonly bridges: readonly Bridge[]
  readonly ports: ReadonlySet<string>
  readonly links: ReadonlySet<string>
}

async function matching(belief: Belief, api: Api, there: There): Promise<Owned> {
  const { caller, possible, pending } = belief
  const own = new Set(tapNamesOf(caller))
  const taps = there.taps.filter(({ name }) => own.has(name))
  const bridge = there.bridges.find(({ name }) => name === bridgeNameOf(caller))
  const seen = {
    bridge: bridge && (await seenBridge(api, bridge)),
    taps: Object.fromEntries(await Promise.all(taps.map(tap => seenTap(api, tap)))),
    lent: seenLent(devicesOf(caller).lent, there),
    hasStray: there.ports.has(strayBridgeOf(caller)),
  }
  const found = possible.find(owned => isDeepStrictEqual(visible(caller, owned), seen))
  if (found === undefined) {
    const what = `caller ${caller.number}${pending === '' ? '' : `, whose ${pending} was not acknowledged`}`
    const [first = nothing] = possible
    assert.deepEqual(seen, visible(caller, first), what)
    assert.fail(what)
  }
  return found
}

const kinds: Readonly<Record<OwnedKind, TapKind>> = {
  tuntap: TapKind.TUNTAP,
  host: TapKind.HOST,
  container: TapKind.CONTAINER,
  adopted: TapKind.ADOPTED,
}

async function seenTap(
  api: Api,
  { name, bridge, vlan, kind, qinqOuterVlan, qos, ovsError }: Tap,
): Promise<[string, object]> {
  const policing = await seenPolicing(api, name, bridge)
  return [name, { bridge, vlan, kind, qinq: qinqOuterVlan, qos: setOf(qos), ...policing, ovsError }]
}

function seenLent(name: string, { taps, ports, links }: There): Owned['lent'] {
  if (ports.has(name) && !taps.some(tap => tap.name === name)) return 'port'
  return links.has(name) ? 'device' : 'nothing'
}

/** What is to be policed, and whether the kernel does. The userspace datapath cannot. */
async function seenPolicing(api: Api, tap: string, bridge: string) {
  if (lane === 'userspace') return { policed: '', isPoliced: true }
  const { qos } = await api.getQos({ tap })
  const policed = qos?.fromEndpoint?.rate ?? ''
  return { policed, isPoliced: bridge === '' || (qos?.actualFromEndpoint?.rate ?? '') === policed }
}

async function seenBridge(api: Api, { name, config, trunks, tunnels, mirrors, bonds }: Bridge) {
  const named = Array.from(bonds, bond => [bond.name, bond.members, bond.vlan, bond.qinqOuterVlan])
  return {
    config: config['other_config:crash'] ?? '',
    trunks,
    tunnels: tunnels.length,
    mirrors,
    bonds: named,
    netflow: await seenNetflow(api, name),
  }
}

async function seenNetflow(api: Api, bridge: string) {
  try {
    const { netflow } = await api.getNetflow({ bridge })
    const isCollecting = netflow?.collector !== ''
    const writers = netflow?.writers.map(writer => writer.name) ?? []
    return { timeoutS: Number(netflow?.activeTimeout?.seconds), writers, isCollecting }
  } catch (error) {
    if (error instanceof RpcError && error.reason === 'NO_NETFLOW') return undefined
    throw error
  }
}

/** What the service shows when all is as a caller has it. */
function visible(caller: Caller, { bridge, taps, lent, hasStray }: Owned): unknown {
  const shown = Object.entries(taps).map(([name, { kind, bridge: on, ...tap }]): [string, object] => [
    name,
    { ...tap, bridge: on, kind: kinds[kind], isPoliced: true, ovsError: '' },
  ])
  return { bridge: bridge && visibleBridge(caller, bridge), taps: Object.fromEntries(shown), lent, hasStray }
}

function visibleBridge(caller: Caller, { config, trunk, tunnel, bond, mirror, netflow }: OwnedBridge) {
  return {
    config,
    trunks: trunk === undefined ? [] : [devicesOf(caller).trunk],
    tunnels: tunnel === undefined ? 0 : 1,
    mirrors: mirror === undefined ? [] : [mirror[0]],
    bonds: bond === undefined ? [] : [[bondNameOf(caller), bond.members, bond.vlan, bond.qinq]],
    netflow: netflow && { ...netflow, isCollecting: true },
  }
}
