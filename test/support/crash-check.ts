import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import type { Bridge } from '../../src/gen/ovs/bridge/v1/bridge.js'
import { type Tap, TapKind } from '../../src/gen/ovs/bridge/v1/tap.js'
import {
  bondNameOf,
  bridgeNameOf,
  type Caller,
  devicesOf,
  type Owned,
  type OwnedBridge,
  type OwnedKind,
  sharedBridge,
  tapNamesOf,
} from './crash-model.js'
import { lane } from './lane.js'
import { listLinks } from './links.js'
import type { PrivateOvs } from './ovs.js'
import { rootQdisc } from './qos.js'
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
  const owned = await Promise.all(beliefs.map(belief => matching(belief, api, taps, bridges)))
  await assertWhole(owned, beliefs, ovs)
  return owned
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

async function matching(belief: Belief, api: Api, taps: readonly Tap[], bridges: readonly Bridge[]): Promise<Owned> {
  const { caller, possible, pending } = belief
  const own = new Set(tapNamesOf(caller))
  const bridge = bridges.find(({ name }) => name === bridgeNameOf(caller))
  const seen = {
    bridge: bridge && (await seenBridge(api, bridge)),
    taps: Object.fromEntries(await Promise.all(taps.filter(({ name }) => own.has(name)).map(tap => seenTap(api, tap)))),
  }
  const found = possible.find(owned => isDeepStrictEqual(visible(caller, owned), seen))
  if (found === undefined) {
    const what = `caller ${caller.number}${pending === '' ? '' : `, whose ${pending} was not acknowledged`}`
    const [first = { bridge: undefined, taps: {} }] = possible
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
  return [name, { bridge, vlan, kind, qinq: qinqOuterVlan, rate: qos?.rate ?? '', ...policing, ovsError }]
}

/** What is to be policed, and whether the kernel does. The userspace datapath cannot. */
async function seenPolicing(api: Api, tap: string, bridge: string) {
  if (lane === 'userspace') return { policed: '', isPoliced: true }
  const { qos } = await api.getQos({ tap })
  const policed = qos?.fromEndpoint?.rate ?? ''
  return { policed, isPoliced: bridge === '' || (qos?.actualFromEndpoint?.rate ?? '') === policed }
}

async function seenBridge(api: Api, { name, config, trunks, tunnels, mirrors, bonds }: Bridge) {
  const named = Array.from(bonds, bond => [bond.name, bond.members])
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
function visible(caller: Caller, { bridge, taps }: Owned): unknown {
  const shown = Object.entries(taps).map(
    ([name, { bridge: on, vlan, kind, qinq, rate, policed }]): [string, object] => [
      name,
      { bridge: on, vlan, kind: kinds[kind], qinq, rate, policed, isPoliced: true, ovsError: '' },
    ],
  )
  return { bridge: bridge && visibleBridge(caller, bridge), taps: Object.fromEntries(shown) }
}

function visibleBridge(caller: Caller, { config, hasTrunk, tunnelCount, bond, mirror, netflow }: OwnedBridge) {
  return {
    config,
    trunks: hasTrunk ? [devicesOf(caller).trunk] : [],
    tunnels: tunnelCount,
    mirrors: mirror === undefined ? [] : [mirror[0]],
    bonds: bond.length === 0 ? [] : [[bondNameOf(caller), bond]],
    netflow: netflow && { ...netflow, isCollecting: true },
  }
}

/** Open vSwitch and the kernel have what the callers own, and nothing else that is ours. */
async function assertWhole(owned: readonly Owned[], beliefs: readonly Belief[], ovs: PrivateOvs): Promise<void> {
  const taps = owned.flatMap(one => Object.entries(one.taps).map(([name, tap]) => ({ name, ...tap })))
  const bridges = owned.flatMap(({ bridge }, i) => {
    const caller = beliefs[i]?.caller
    return bridge === undefined || caller === undefined ? [] : [{ caller, ...bridge }]
  })
  const bonds = bridges.filter(({ bond }) => bond.length > 0)
  await assertRows(ovs, {
    QoS: taps.length + bonds.length,
    Mirror: bridges.filter(({ mirror }) => mirror !== undefined).length,
    NetFlow: bridges.filter(({ netflow }) => netflow !== undefined).length,
  })
  const bonded = new Set(bonds.flatMap(({ bond }) => bond))
  const active = taps.filter(({ bridge }) => bridge !== '')
  const interfaces = new Map((await ovs.select('Interface')).map(row => [row['name'], row]))
  assert.deepEqual(
    (await ovs.select('Port')).flatMap(oursOf).sort(),
    [
      sharedBridge,
      ...bridges.map(({ caller }) => bridgeNameOf(caller)),
      ...active.map(({ name }) => name).filter(name => !bonded.has(name)),
      ...bonds.map(({ caller }) => bondNameOf(caller)),
      ...bridges.flatMap(({ caller, hasTrunk }) => (hasTrunk ? [devicesOf(caller).trunk] : [])),
      ...bridges.flatMap(({ tunnelCount }) => Array.from({ length: tunnelCount }, () => 'a tunnel')),
    ].sort(),
    'ports of ours',
  )
  const links = new Map(listLinks().map(link => [link.name, link]))
  for (const { name, kind, bridge, rate, policed } of taps) {
    const [row, link] = [interfaces.get(name), links.get(name)]
    assert.equal(link !== undefined, kind !== 'host' || bridge !== '', `the device of ${name}`)
    if (bridge !== '') assert.equal(row?.['ifindex'], link?.index, `the device that is open as ${name}`)
    if (bridge !== '') assert(Number(row?.['ofport']) > 0, `the OpenFlow port of ${name}`)
    if (link !== undefined && kind !== 'adopted') assert(link.up, `${name} is up`)
    if (bridge !== '') assert.equal(row?.['ingress_policing_rate'], policed === '' ? 0 : 30_000, `policing of ${name}`)
    if (link !== undefined) assert.equal(rootQdisc(name)?.ours === true, rate !== '', `the qdisc of ${name}`)
  }
  const known = new Set([
    sharedBridge,
    ...bridges.map(({ caller }) => bridgeNameOf(caller)),
    ...taps.map(({ name }) => name),
  ])
  const left = [...links.values()].filter(({ name, alias }) => isMarked(alias) && !known.has(name))
  assert.deepEqual(
    left.map(({ name }) => name),
    [],
    'devices that nobody owns',
  )
  assert.deepEqual(
    [...links.keys()].filter(name => /^(cap-|v-)/.test(name)),
    [],
    'devices of captures and veths',
  )
}

function isMarked(alias: string): boolean {
  return alias.startsWith('ovs-bridged')
}

/** The name of a port that bears our marks; those of tunnels are generated. */
function oursOf(row: Readonly<Record<string, unknown>>): readonly string[] {
  const marks = JSON.stringify(row['external_ids'])
  if (!marks.includes('ovs-bridged:instance')) return []
  return [marks.includes('"tunnel"') ? 'a tunnel' : String(row['name'])]
}

/** Tables of which we are to have so many rows; those of others are in them too, and have no marks. */
async function assertRows(ovs: PrivateOvs, counts: Readonly<Record<string, number>>): Promise<void> {
  for (const [table, count] of Object.entries(counts)) {
    const ours = (await ovs.select(table)).filter(row => JSON.stringify(row['external_ids']).includes('ovs-bridged:'))
    assert.equal(ours.length, count, `rows of ours in ${table}`)
  }
}
