import assert from 'node:assert/strict'
import { DriftKind } from '../../src/gen/ovs/bridge/v1/drift.js'
import { TunnelType } from '../../src/gen/ovs/bridge/v1/uplink.js'
import type { QdiscSpec } from '../../src/kernel/index.js'
import { isRecord } from '../../src/lib/json-rpc.js'
import { hasForeignIngress } from './crash-foreign.js'
import {
  bondNameOf,
  bridgeNameOf,
  type Caller,
  devicesOf,
  lendingBridge,
  namesOf,
  type Owned,
  type OwnedTap,
  remoteIpOf,
  strayBridgeOf,
} from './crash-owned.js'
import { items, mapOf, ourMarks, portRows, rowOf, rowsOf, textOf } from './crash-rows.js'
import type { Dump } from './dump.js'
import { listLinks } from './links.js'
import type { PrivateOvs } from './ovs.js'
import { listQueueing, policedRate } from './qos.js'
import type { Api } from './rpc.js'

/** A caller with what it has. */
export interface Holding {
  readonly caller: Caller
  readonly owned: Owned
}

/**
 * Open vSwitch's rows and the kernel are as the calls of all have it, and there is nothing else of ours, whatever the
 * service says. Throws otherwise.
 */
export async function assertWhole(holdings: readonly Holding[], api: Api, ovs: PrivateOvs): Promise<void> {
  const dump = await ovs.dump()
  assert.deepEqual(portsIn(dump), sorted(holdings.flatMap(portsOf)), 'ports of ours')
  assert.deepEqual(bridgesIn(dump), sorted(holdings.flatMap(bridgesOf)), 'bridges of ours')
  assert.deepEqual(lentIn(dump), sorted(holdings.flatMap(lentOf)), 'ports that are lent')
  assertCounts(dump, holdings)
  await assertDevices(holdings, ovs)
  // A bridge of the test's has no underlay to send through.
  const drifts = (await api.reportDrift()).drifts.filter(({ kind }) => kind !== DriftKind.NO_ROUTE)
  assert.deepEqual(drifts, [], 'what the service itself finds wrong')
}

function sorted(views: readonly object[]): readonly unknown[] {
  return views.map(view => JSON.stringify(view)).sort()
}

interface Vlans {
  readonly tag: number | undefined
  readonly mode: string
  readonly trunks: readonly number[]
}

const noVlans: Vlans = { tag: undefined, mode: '', trunks: [] }

function vlansOf(vlan: number | undefined, qinq: number | undefined): Vlans {
  return qinq === undefined ? { ...noVlans, tag: vlan } : { ...noVlans, tag: qinq, mode: 'dot1q-tunnel' }
}

/** One port of ours, as its rows are to be. */
interface PortView {
  readonly on: string
  /** That of a tunnel is generated. */
  readonly name: string
  readonly tag: number | undefined
  readonly mode: string
  readonly trunks: readonly number[]
  readonly bondMode: string
  readonly interfaces: readonly string[]
}

/** Name, type, options and policing of an interface. */
function interfaceView(name: string, type: string, options: readonly string[], policedKbps: number): string {
  return [name, type, ...options, policedKbps].join(' ')
}

function portsOf({ caller, owned }: Holding): PortView[] {
  const { bridge, taps } = owned
  const ofTap = (name: string, { kind, policed }: OwnedTap) =>
    interfaceView(name, kind === 'host' ? 'internal' : '', [], Number(policed.replace('mbit', '000')))
  const views: PortView[] = []
  for (const [name, tap] of Object.entries(taps)) {
    if (tap.bridge === '' || bridge?.bond?.members.includes(name) === true) continue
    // What a mirror hands to its destination keeps its tags.
    const vlans = bridge?.mirror?.[0] === name ? noVlans : vlansOf(tap.vlan, tap.qinq)
    views.push({ on: tap.bridge, name, ...vlans, bondMode: '', interfaces: [ofTap(name, tap)] })
  }
  if (bridge === undefined) return views
  const on = bridgeNameOf(caller)
  if (bridge.bond !== undefined) {
    const { members, vlan, qinq } = bridge.bond
    const interfaces = members.flatMap(name => (taps[name] === undefined ? [] : ofTap(name, taps[name])))
    views.push({ on, name: bondNameOf(caller), ...vlansOf(vlan, qinq), bondMode: 'active-backup', interfaces })
  }
  if (bridge.trunk !== undefined) {
    const { trunk: name } = devicesOf(caller)
    const interfaces = [interfaceView(name, '', [], 0)]
    views.push({ on, name, ...noVlans, trunks: bridge.trunk, bondMode: '', interfaces })
  }
  if (bridge.tunnel !== undefined) {
    const port = dstPorts[bridge.tunnel]
    const options = [...(port === undefined ? [] : [`dst_port=${port}`]), `key=${caller.number}`]
    options.push(`remote_ip=${remoteIpOf(caller)}`)
    const interfaces = [interfaceView('', TunnelType[bridge.tunnel].toLowerCase(), options, 0)]
    views.push({ on, name: 'a tunnel', ...noVlans, bondMode: '', interfaces })
  }
  return views
}

const dstPorts: Readonly<Partial<Record<TunnelType, number>>> = { [TunnelType.VXLAN]: 4789, [TunnelType.GENEVE]: 6081 }

function portsIn(dump: Dump): readonly unknown[] {
  return sorted(
    portRows(dump).flatMap(({ on, row, marks }): PortView[] => {
      const role = marks.get('ovs-bridged:role')
      if (!marks.has('ovs-bridged:instance') || role === 'local') return []
      const isTunnel = role === 'tunnel'
      const interfaces = items(row['interfaces']).map(reference => {
        const found = rowOf(dump, reference)
        const options = [...mapOf(found['options'])].map(([key, value]) => `${key}=${value}`)
        const name = isTunnel ? '' : textOf(found['name'])
        return interfaceView(name, textOf(found['type']), options.sort(), Number(found['ingress_policing_rate']))
      })
      const [tag] = items(row['tag']).map(Number)
      return [
        {
          on,
          name: isTunnel ? 'a tunnel' : textOf(row['name']),
          tag,
          mode: textOf(row['vlan_mode']),
          trunks: items(row['trunks']).map(Number),
          bondMode: textOf(row['bond_mode']),
          interfaces: interfaces.sort(),
        },
      ]
    }),
  )
}

function bridgesOf({ caller, owned: { bridge } }: Holding): object[] {
  if (bridge === undefined) return []
  const { config, mirror, netflow } = bridge
  const [destination, source = ''] = mirror ?? []
  const selected = source === '' ? [] : [`Port ${source}`]
  return [
    {
      name: bridgeNameOf(caller),
      config,
      mirrors:
        mirror === undefined ? [] : [{ output: `Port ${destination}`, all: source === '', selected, to: selected }],
      netflow: netflow === undefined ? '' : `${netflow.timeoutS} s to 1`,
    },
  ]
}

function bridgesIn(dump: Dump): readonly unknown[] {
  const own = rowsOf(dump, 'Bridge').filter(row => textOf(row['name']).startsWith('own'))
  return sorted(
    own.map(row => ({
      name: textOf(row['name']),
      config: mapOf(row['other_config']).get('crash') ?? '',
      mirrors: items(row['mirrors']).map(reference => {
        const mirror = rowOf(dump, reference)
        return {
          output: textOf(mirror['output_port']),
          all: mirror['select_all'],
          selected: items(mirror['select_src_port']),
          to: items(mirror['select_dst_port']),
        }
      }),
      netflow: netflowIn(row['netflow']),
    })),
  )
}

function netflowIn(value: unknown): string {
  const netflow = isRecord(value) ? value['NetFlow'] : undefined
  return isRecord(netflow) ? `${Number(netflow['active_timeout'])} s to ${items(netflow['targets']).length}` : ''
}

function lentOf({ caller, owned }: Holding): object[] {
  const { lent: name } = devicesOf(caller)
  return owned.taps[name] === undefined && owned.lent === 'port' ? [{ on: lendingBridge, name, tag: 7 }] : []
}

/** Ports on the bridge that lends, which bear no mark of ours. */
function lentIn(dump: Dump): readonly unknown[] {
  return sorted(
    portRows(dump).flatMap(({ on, row, marks }) =>
      on === lendingBridge && textOf(row['name']) !== lendingBridge
        ? [
            {
              on,
              name: textOf(row['name']),
              tag: items(row['tag']).map(Number)[0],
              ...Object.fromEntries(ourMarks(marks)),
            },
          ]
        : [],
    ),
  )
}

/** Rows that nothing else would tell of: nobody refers to them. */
function assertCounts(dump: Dump, holdings: readonly Holding[]): void {
  const bridges = holdings.flatMap(({ owned }) => owned.bridge ?? [])
  const taps = holdings.flatMap(({ owned }) => Object.values(owned.taps))
  const counts = {
    QoS: taps.length + bridges.filter(({ bond }) => bond !== undefined).length,
    Mirror: bridges.filter(({ mirror }) => mirror !== undefined).length,
    NetFlow: bridges.filter(({ netflow }) => netflow !== undefined).length,
  }
  for (const [table, count] of Object.entries(counts)) {
    const ours = rowsOf(dump, table).filter(row => ourMarks(mapOf(row['external_ids'])).length > 0)
    assert.equal(ours.length, count, `rows of ours in ${table}`)
  }
}

async function assertDevices(holdings: readonly Holding[], ovs: PrivateOvs): Promise<void> {
  const links = new Map(listLinks().map(link => [link.name, link]))
  const queueing = listQueueing()
  const interfaces = new Map((await ovs.select('Interface')).map(row => [row['name'], row]))
  const [shaped, policed, devices] = [new Set<string>(), new Set<string>(), new Set<string>()]
  for (const { caller, owned } of holdings) {
    assert.equal(links.has(devicesOf(caller).lent), owned.lent !== 'nothing', `the device ${devicesOf(caller).lent}`)
    assert.equal(links.has(strayBridgeOf(caller)), owned.hasStray, `the device ${strayBridgeOf(caller)}`)
    if (owned.bridge !== undefined) devices.add(bridgeNameOf(caller))
    for (const [name, tap] of Object.entries(owned.taps)) {
      const [row, link] = [interfaces.get(name), links.get(name)]
      assert.equal(link !== undefined, tap.kind !== 'host' || tap.bridge !== '', `the device of ${name}`)
      if (tap.bridge !== '') assert.equal(row?.['ifindex'], link?.index, `the device that is open as ${name}`)
      if (tap.bridge !== '') assert(Number(row?.['ofport']) > 0, `the OpenFlow port of ${name}`)
      if (link === undefined) continue
      if (tap.kind !== 'adopted') assert(link.up, `${name} is up`)
      const { root, hasIngress = false } = queueing.get(link.index) ?? {}
      assert.deepEqual(
        root?.ours === true && root.spec ? numbersOf(root.spec) : undefined,
        numbersFor(tap),
        `the qdisc of ${name}`,
      )
      // One that is detached keeps the policer that it had.
      if (tap.bridge !== '') assert.equal(hasIngress, tap.policed !== '', `the policer of ${name}`)
      if (hasIngress) assert.equal(policedRate(name), tap.policed.replace('mbit', 'Mbit'), `the limit of ${name}`)
      devices.add(name)
      if (tap.policed !== '') policed.add(name)
      if (Object.keys(tap.qos).length > 0) shaped.add(name)
    }
  }
  const callersOwn = new Set(holdings.flatMap(({ caller }) => namesOfDevices(caller)))
  const stray = [...links.values()].flatMap(({ name, alias, index }) => {
    const { root, hasIngress } = queueing.get(index) ?? {}
    return [
      // It may be without its mark.
      ...(callersOwn.has(name) && !devices.has(name) ? [`the device ${name} of nobody`] : []),
      ...(alias.startsWith('ovs-bridged:') && !devices.has(name) ? [`the device ${name}`] : []),
      ...(alias.startsWith('ovs-bridged-bridge:') && !devices.has(name) ? [`the device of the bridge ${name}`] : []),
      ...(/^(cap-|v-)/.test(name) ? [`the device ${name} of a capture or a veth`] : []),
      ...(root?.ours === true && !shaped.has(name) ? [`a qdisc on ${name}`] : []),
      ...(hasIngress === true && !policed.has(name) && !hasForeignIngress(name) ? [`a policer on ${name}`] : []),
    ]
  })
  assert.deepEqual(stray, [], 'what nobody owns')
}

/** Devices that nobody makes but for this caller. */
function namesOfDevices(caller: Caller): readonly string[] {
  const { tuntap, host, container } = namesOf(caller)
  return [bridgeNameOf(caller), ...tuntap, ...host, ...container]
}

/** What the kernel has of a qdisc, its burst and its queue apart. */
function numbersOf(spec: QdiscSpec): unknown {
  return Object.fromEntries(Object.entries(spec).filter(([key]) => !/^(burst|limit)/.test(key)))
}

/** The same as the calls have it. */
function numbersFor({ qos }: OwnedTap): unknown {
  const { rate = '', ...others } = qos
  const bytesPerSecond = rate === '' ? 0 : (Number(rate.replace('mbit', '')) * 1e6) / 8
  if (Object.keys(others).length === 0) return rate === '' ? undefined : { kind: 'tbf', bytesPerSecond }
  const milliseconds = (text = '0') => Number(text.replace('ms', '')) * 1e6
  const share = (text = '0') => Math.round((Number(text.replace('%', '')) / 100) * 0xffff_ffff)
  return {
    kind: 'netem',
    bytesPerSecond,
    delayNs: milliseconds(others.delay),
    jitterNs: milliseconds(others.jitter),
    loss: share(others.loss),
    duplicate: share(others.duplicate),
    corrupt: share(others.corrupt),
    reorder: share(others.reorder),
  }
}
