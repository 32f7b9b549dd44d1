import assert from 'node:assert/strict'
import { TunnelType } from '../../src/gen/ovs/bridge/v1/uplink.js'
import { removePort } from '../support/foreign-port.js'
import { laneTest } from '../support/lane.js'
import { addAddress, changeLink, createVethPair } from '../support/links.js'
import { addForeignBridge, type PrivateOvs, startPrivateOvs } from '../support/ovs.js'
import { expectNoPing, ping, pingsCease } from '../support/ping.js'
import { plug } from '../support/plug.js'
import { RpcError } from '../support/rpc.js'
import { type ServedTestbed, startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

/** A bridge `under` with an uplink to the other host, and with addresses: the userspace datapath routes by them. */
async function layUnderlay(bed: ServedTestbed): Promise<void> {
  await bed.api.ensureBridge({ bridge: 'under' })
  await bed.api.addTrunk({ bridge: 'under', interface: 'up0' })
  changeLink({ name: 'under', up: true })
  for (const address of ['10.9.0.1/24', 'fd09::1/64']) addAddress('under', address)
}

/** A second host: addresses 10.9.0.2 and fd09::2 below, 10.1.0.2 on VLAN 10 of its br0. */
async function startFarHost(bed: ServedTestbed, signal: AbortSignal): Promise<PrivateOvs> {
  const far = bed.createContainer('far')
  const ovs = bed.use(await startPrivateOvs(signal, far))
  createVethPair({ name: 'up0' }, { name: 'up0' }, far)
  await addForeignBridge(ovs, 'under', [{ name: 'up0' }])
  await addForeignBridge(ovs, 'br0', [{ name: 'o0', type: 'internal', tag: 10 }])
  far.run(() => {
    for (const name of ['under', 'o0']) changeLink({ name, up: true })
    for (const address of ['10.9.0.2/24', 'fd09::2/64']) addAddress('under', address)
    addAddress('o0', '10.1.0.2/24')
  })
  return ovs
}

type Options = Readonly<Record<string, string>>

/** Makes the far host's one tunnel, or makes it anew. */
async function setFarTunnel(ovs: PrivateOvs, type: string, options: Options): Promise<void> {
  const iface = { name: 'far-tunnel', type, options: ['map', Object.entries(options)] }
  const [port] = await ovs.select('Port', [['name', '==', 'far-tunnel']])
  if (port !== undefined) await ovs.configure(removePort(port))
  await ovs.configure(
    { op: 'insert', table: 'Interface', 'uuid-name': 'iface', row: iface },
    {
      op: 'insert',
      table: 'Port',
      'uuid-name': 'port',
      row: { name: 'far-tunnel', interfaces: ['named-uuid', 'iface'] },
    },
    {
      op: 'mutate',
      table: 'Bridge',
      where: [['name', '==', 'br0']],
      mutations: [['ports', 'insert', ['named-uuid', 'port']]],
    },
  )
}

interface Kind {
  readonly type: TunnelType
  readonly remoteIp: string
  readonly key?: string
  readonly dstPort?: number
  /** The far end's: the same in Open vSwitch's words, and one that must not fit. */
  readonly far: { readonly type: string; readonly fits: Options; readonly wrong?: Options }
}

const v4 = { remote_ip: '10.9.0.1' }
const v6 = { remote_ip: 'fd09::1' }

const kinds: Readonly<Record<string, Kind>> = {
  ovsvxlan0: { type: TunnelType.VXLAN, remoteIp: '10.9.0.2', far: { type: 'vxlan', fits: v4 } },
  ovsvxlan1: {
    type: TunnelType.VXLAN,
    remoteIp: '10.9.0.2',
    key: '0xABC',
    dstPort: 8472,
    far: {
      type: 'vxlan',
      fits: { ...v4, key: '2748', dst_port: '8472' },
      wrong: { ...v4, key: '2749', dst_port: '8472' },
    },
  },
  ovsvxlan2: { type: TunnelType.VXLAN, remoteIp: 'FD09:0::2', far: { type: 'vxlan', fits: v6 } },
  ovsgre0: { type: TunnelType.GRE, remoteIp: '10.9.0.2', far: { type: 'gre', fits: v4 } },
  ovsgre1: {
    type: TunnelType.GRE,
    remoteIp: '10.9.0.2',
    key: '4294967295',
    far: { type: 'gre', fits: { ...v4, key: '4294967295' }, wrong: v4 },
  },
  ovsgre2: { type: TunnelType.GRE, remoteIp: 'fd09::2', far: { type: 'gre', fits: v6 } },
  ovsgeneve0: {
    type: TunnelType.GENEVE,
    remoteIp: '10.9.0.2',
    key: '7',
    far: { type: 'geneve', fits: { ...v4, key: '7' }, wrong: { ...v4, key: '8' } },
  },
}

laneTest('tunnels of each kind carry a VLAN to another host, and nothing under another key', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const far = await startFarHost(bed, context.signal)
  await layUnderlay(bed)
  const red = await plug(bed, 'red', '10.1.0.1/24', { vlan: 10 })
  for (const [name, { far: theirs, ...ours }] of Object.entries(kinds)) {
    if (bed.ovs.datapathType === 'system' && name === 'ovsgre2') {
      await assert.rejects(bed.api.addTunnel(ours), { code: 'FAILED_PRECONDITION', reason: 'UNSUPPORTED' })
      continue
    }
    const { tunnel } = await bed.api.addTunnel(ours)
    assert.deepEqual([tunnel?.interface, tunnel?.warning], [name, ''])
    if (theirs.wrong !== undefined) {
      await setFarTunnel(far, theirs.type, theirs.wrong)
      await expectNoPing(red, '10.1.0.2')
    }
    await setFarTunnel(far, theirs.type, theirs.fits)
    await ping(red, '10.1.0.2').catch((cause: unknown) => {
      throw new Error(`nothing comes through ${name}`, { cause })
    })
    await bed.api.removeTunnel({ interface: name })
    await pingsCease(red, '10.1.0.2')
  }
})

laneTest('a tunnel is told as it is, and warns of a route that leads nowhere until it does', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api } = bed
  const { tunnel } = await api.addTunnel({ type: TunnelType.VXLAN, remoteIp: 'FD09:0::2', key: '0x10' })
  assert.deepEqual(tunnel, {
    interface: 'ovsvxlan0',
    bridge: 'br0',
    type: TunnelType.VXLAN,
    remoteIp: 'fd09::2',
    key: '16',
    dstPort: 4789,
    warning: 'there is no route to fd09::2',
  })
  const warnings = async () => (await api.getBridge({ bridge: 'br0' })).bridge?.warnings ?? []
  assert.deepEqual(await warnings(), ['ovsvxlan0: there is no route to fd09::2'])
  // A route by a device that is no port serves the kernel's datapath alone.
  const other = bed.createContainer('other')
  createVethPair({ name: 'up0' }, { name: 'up0' }, other)
  addAddress('up0', 'fd09::1/64')
  const expected =
    bed.ovs.datapathType === 'system' ? /^$/ : /^ovsvxlan0: .* leaves by up0, which is no port of a bridge/
  await until('the route is seen', async () => expected.test((await warnings()).join()))
  await api.ensureBridge({ bridge: 'under' })
  await api.createHostTap({ bridge: 'under', tap: 'u0' })
  addAddress('u0', '10.9.0.1/24')
  addAddress('u0', 'fd08::1/64')
  // ovs-vswitchd may hear of the tunnel before it has heard of the address.
  const comesToWarn = async (request: Parameters<typeof api.addTunnel>[0], text: RegExp) => {
    const { tunnel: added } = await api.addTunnel(request)
    await until(`${added?.interface} warns of ${text.source}`, async () => {
      const { bridge } = await api.getBridge({ bridge: added?.bridge ?? '' })
      return text.test(bridge?.warnings.find(warning => warning.startsWith(`${added?.interface}: `)) ?? '')
    })
  }
  await comesToWarn({ type: TunnelType.GRE, remoteIp: '10.9.0.2' }, /^$/)
  const neighbours = bed.ovs.datapathType === 'system' ? /^$/ : /finds IPv6 neighbours only by .* under$/
  await comesToWarn({ type: TunnelType.VXLAN, remoteIp: 'fd08::2' }, neighbours)
  const loop = /leaves by u0, a port of the tunnel's own bridge/
  await comesToWarn({ bridge: 'under', type: TunnelType.GENEVE, remoteIp: '10.9.0.2' }, loop)
})

laneTest('tunnels outlive the daemon, and go with their bridge or alone from one that stays', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'stays', [{ name: 'theirs', type: 'internal' }])
  await bed.api.ensureBridge({ bridge: 'stays' })
  const stays = await bed.ovs.select('Bridge', [['name', '==', 'stays']])
  const other = bed.createContainer('other')
  for (const name of ['up0', 'up1']) createVethPair({ name }, { name }, other)
  for (const [bridge, name, key] of [
    ['br0', 'up0', '1'],
    ['stays', 'up1', '2'],
  ] as const) {
    await bed.api.addTrunk({ bridge, interface: name })
    await bed.api.addTunnel({ bridge, type: TunnelType.GRE, remoteIp: '10.9.0.2', key })
  }
  await bed.service[Symbol.asyncDispose]()
  const { api } = bed.use(await startService(bed))
  const { bridges } = await api.listBridges()
  assert.deepEqual(
    bridges.map(({ trunks, tunnels }) => [trunks, tunnels]),
    [
      [['up0'], ['ovsgre0']],
      [['up1'], ['ovsgre1']],
    ],
  )
  const { tunnel } = await api.addTunnel({ type: TunnelType.GRE, remoteIp: '10.9.0.2', key: '3' })
  assert.equal(tunnel?.interface, 'ovsgre2')
  assert.deepEqual(await api.destroyBridge({ bridge: 'stays' }), { leftInPlace: true })
  assert.deepEqual(await api.destroyBridge({ bridge: 'br0' }), { leftInPlace: false })
  const names = (await bed.ovs.select('Interface')).map(({ name }) => String(name)).sort()
  assert.deepEqual(names, ['stays', 'theirs'])
  const [left] = await bed.ovs.select('Bridge', [['name', '==', 'stays']])
  assert.deepEqual([left?.['_uuid'], left?.['external_ids']], [stays[0]?.['_uuid'], ['map', []]])
})

laneTest('what cannot be a tunnel is refused and leaves nothing', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api } = bed
  const good = { type: TunnelType.VXLAN, remoteIp: '10.9.0.2', key: '5' }
  const gre = { type: TunnelType.GRE, remoteIp: '10.9.0.2' }
  await api.addTunnel(good)
  await api.addTunnel(gre)
  await api.ensureBridge({ bridge: 'br1' })
  await api.createTap({ tap: 'tap0' })
  const before = await bed.ovs.dump()
  const bad = {
    type: [{ type: TunnelType.UNSPECIFIED }, { type: 9 }],
    remote_ip: [
      '',
      'x',
      '10.9.0',
      '0.0.0.0',
      '224.0.0.1',
      '255.255.255.255',
      '::',
      'ff02::1',
      'fe80::1%lo',
      '::ffff:1.2.3.4',
    ].map(remoteIp => ({ remoteIp })),
    key: [{ key: '16777216' }, { key: '-1' }, { key: '1.5' }, { key: 'x' }, { ...gre, key: '4294967296' }],
    dst_port: [{ dstPort: 65536 }, { ...gre, dstPort: 4789 }],
    bridge: [{ bridge: 'a/b' }],
  }
  for (const [field, requests] of Object.entries(bad)) {
    for (const request of requests) {
      await assert.rejects(api.addTunnel({ ...good, ...request }), (error: unknown) => {
        assert(error instanceof RpcError)
        assert.deepEqual(
          [error.code, Object.keys(error.violations)],
          ['INVALID_ARGUMENT', [field]],
          JSON.stringify(request),
        )
        return true
      })
    }
  }
  const refusals = [
    [api.addTunnel({ ...good, bridge: 'nowhere', key: '6' }), 'NOT_FOUND', 'BRIDGE_NOT_FOUND'],
    [api.addTunnel({ ...good, key: '0x5', dstPort: 4789 }), 'ALREADY_EXISTS', 'TUNNEL_EXISTS'],
    [api.addTunnel({ ...gre, bridge: 'br1', key: '0' }), 'ALREADY_EXISTS', 'TUNNEL_EXISTS'],
    [api.removeTunnel({ interface: 'nowhere' }), 'NOT_FOUND', 'TUNNEL_NOT_FOUND'],
    [api.removeTunnel({ interface: 'tap0' }), 'NOT_FOUND', 'TUNNEL_NOT_FOUND'],
    [api.removeTunnel({ interface: 'ovsgre0', bridge: 'br1' }), 'NOT_FOUND', 'TUNNEL_NOT_FOUND'],
    [api.removeTrunk({ interface: 'ovsgre0' }), 'NOT_FOUND', 'TRUNK_NOT_FOUND'],
  ] as const
  for (const [call, code, reason] of refusals) await assert.rejects(call, { code, reason })
  assert.deepEqual(await bed.ovs.dump(), before)
  const both = await Promise.allSettled([1, 2].map(() => api.addTunnel({ ...good, key: '9' })))
  assert.deepEqual(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
})
