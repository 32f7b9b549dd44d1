import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createConnection } from 'node:net'
import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { TunnelType } from '../../src/gen/ovs/bridge/v1/uplink.js'
import { laneTest } from '../support/lane.js'
import { createVethPair, deleteLink, findLink } from '../support/links.js'
import { addForeignBridge, type PrivateOvs } from '../support/ovs.js'
import { stateOf } from '../support/refusal.js'
import type { Api } from '../support/rpc.js'
import { type ServedTestbed, type Service, startServedTestbed, startService } from '../support/service.js'
import { startTestbed, type Testbed } from '../support/testbed.js'
import { until } from '../support/until.js'

/** Of tests that do much: the kernel of the kernel lane may be slow. */
const timeoutMs = 150_000

/** One tap of each kind, on VLANs of their own. */
async function plugAll(bed: Testbed, api: Api, bridge: string, prefix: string): Promise<void> {
  await api.createTap({ bridge, tap: `${prefix}tap`, vlan: 10, mac: '02:00:00:00:00:01' })
  await api.createHostTap({ bridge, tap: `${prefix}host`, vlan: 20 })
  const { path } = bed.createContainer(prefix)
  await api.createContainerTap({ bridge, tap: `${prefix}veth`, netns: path, vethIndex: 0 })
}

/** A port that another program puts on a bridge that is there. */
function insertForeignPort(bridge: string, name: string): readonly unknown[] {
  const row = { name, interfaces: ['named-uuid', 'interface'], tag: 7, external_ids: ['map', [['whose', 'theirs']]] }
  return [
    { op: 'insert', table: 'Interface', 'uuid-name': 'interface', row: { name, type: 'internal' } },
    { op: 'insert', table: 'Port', 'uuid-name': 'port', row },
    {
      op: 'mutate',
      table: 'Bridge',
      where: [['name', '==', bridge]],
      mutations: [['ports', 'insert', ['named-uuid', 'port']]],
    },
  ]
}

async function names(ovs: PrivateOvs, table: string): Promise<unknown[]> {
  return (await ovs.select(table)).map(row => row['name']).sort()
}

laneTest('listing bridges creates none, and looking for one neither', { only: 'userspace' }, async context => {
  await using bed = await startTestbed(context.signal)
  const before = await stateOf(bed)
  const { api } = bed.use(await startService(bed))
  assert.deepEqual((await api.listBridges()).bridges, [])
  assert.deepEqual((await api.listTaps()).taps, [])
  await assert.rejects(api.getBridge({ bridge: 'br0' }), { code: 'NOT_FOUND', reason: 'BRIDGE_NOT_FOUND' })
  await assert.rejects(api.listTaps({ bridge: 'br0' }), { code: 'NOT_FOUND', reason: 'BRIDGE_NOT_FOUND' })
  assert.deepEqual(await stateOf(bed), before)
})

/** A trunk, a tunnel, a bond, a mirror and a setting, each by one transaction. */
async function equip(bed: Testbed, { api, daemon }: Service, bridge: string, prefix: string): Promise<void> {
  createVethPair({ name: `${prefix}up` }, { name: 'eth0' }, bed.createContainer())
  const members = ['m0', 'm1', 'span'].map(name => prefix + name)
  const defaults = { mac: '', vlan: 0, mtu: 0, multiQueue: false }
  const calls: readonly (() => Promise<unknown>)[] = [
    () => api.addTrunk({ bridge, interface: `${prefix}up`, vlans: [1, 2] }),
    () => api.addTunnel({ bridge, type: TunnelType.VXLAN, remoteIp: '10.9.0.2', key: String(prefix.charCodeAt(0)) }),
    () => api.createTaps({ taps: members.map(tap => ({ ...defaults, bridge, tap })) }),
    () => api.addBond({ bridge, bond: `${prefix}bond`, members: members.slice(0, 2), mode: BondMode.ACTIVE_BACKUP }),
    () => api.setTapQinQ({ tap: `${prefix}bond`, outerVlan: 100 }),
    () => api.deleteBond({ bridge, bond: `${prefix}bond` }),
    () => api.addBond({ bridge, bond: `${prefix}bond`, members: members.slice(0, 2), mode: BondMode.BALANCE_SLB }),
    () => api.createMirror({ bridge, source: `${prefix}tap`, destination: `${prefix}span` }),
    () => api.destroyMirror({ destination: `${prefix}span` }),
    () => api.createMirror({ bridge, destination: `${prefix}span` }),
    () => api.setBridgeConfig({ bridge, settings: ['external_ids:note=ours', 'other_config:note=ours'] }),
  ]
  for (const [index, call] of calls.entries()) {
    const before = daemon.host.committer.transactions
    await call()
    assert.equal(daemon.host.committer.transactions, before + 1, `transactions of call ${index}`)
  }
}

laneTest(
  'all that is made and destroyed leaves the bridges of others as they were',
  { looksInside: true, timeoutMs },
  async context => {
    await using bed = await startTestbed(context.signal)
    await addForeignBridge(bed.ovs, 'foreign', [{ name: 'theirs', type: 'internal', tag: 5 }])
    await addForeignBridge(bed.ovs, 'there', [{ name: 'theirs2', type: 'internal' }])
    const before = await stateOf(bed)
    await using service = await startService(bed)
    const { api } = service
    await api.ensureBridge()
    assert.equal((await api.ensureBridge({ bridge: 'there' })).bridge?.preExist, true)
    await plugAll(bed, api, 'br0', 'a')
    await plugAll(bed, api, 'there', 'b')
    const theirs = async () => {
      const rows = (await bed.ovs.dump())['Port']?.filter(row => JSON.stringify(row).includes('"theirs'))
      assert.equal(rows?.length, 2)
      return rows
    }
    const untouched = await theirs()
    await equip(bed, service, 'br0', 'a')
    await api.destroyMirror({ destination: 'aspan' })
    await api.removeTap({ tap: 'atap' })
    await api.addTap({ tap: 'atap', bridge: 'there' })
    await api.setTapQinQ({ tap: 'btap', outerVlan: 100 })
    const { bridges } = await api.listBridges()
    assert.deepEqual(
      bridges.map(({ name, preExist, vlans }) => ({ name, preExist, vlans })),
      [
        { name: 'br0', preExist: false, vlans: [0, 20] },
        { name: 'there', preExist: true, vlans: [0, 10, 20] },
      ],
    )
    assert.deepEqual(await theirs(), untouched)
    assert.deepEqual(await api.destroyAllBridges(), { destroyed: ['br0'], leftInPlace: ['there'] })
    deleteLink(findLink('aup')?.index ?? 0)
    assert.deepEqual(await stateOf(bed), before)
    assert.deepEqual(await api.destroyAllBridges(), { destroyed: [], leftInPlace: [] })
  },
)

laneTest('a bridge of ours that carries a port of others stays with it alone', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.ovs.configure(...insertForeignPort('br0', 'theirs'))
  const theirs = async () => (await bed.ovs.dump())['Port']?.find(row => JSON.stringify(row).includes('"theirs"'))
  const before = await theirs()
  await plugAll(bed, bed.api, 'br0', 'a')
  assert.deepEqual(await bed.api.destroyBridge({ bridge: 'br0' }), { leftInPlace: true })
  assert.notEqual(before, undefined)
  assert.deepEqual(await theirs(), before)
  assert.deepEqual(await names(bed.ovs, 'Port'), ['br0', 'theirs'])
  assert.deepEqual(await bed.ovs.select('QoS'), [])
  const [bridge] = await bed.ovs.select('Bridge')
  assert.deepEqual(bridge?.['external_ids'], ['map', []])
})

laneTest(
  'a failed destroy does not report success when retried, and goes on where it was',
  { timeoutMs },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await addForeignBridge(bed.ovs, 'there', [])
    await bed.api.ensureBridge({ bridge: 'there' })
    await plugAll(bed, bed.api, 'br0', 'a')
    await plugAll(bed, bed.api, 'there', 'b')
    const cut = { code: 'DEADLINE_EXCEEDED' }
    bed.ovs.vswitchd.stop()
    await assert.rejects(bed.api.destroyBridge({ bridge: 'br0' }, { timeoutMs: 500 }), cut)
    await assert.rejects(bed.api.destroyAllBridges({}, { timeoutMs: 500 }), cut)
    await assert.rejects(bed.api.destroyBridge({ bridge: 'there' }, { timeoutMs: 500 }), cut)
    bed.ovs.vswitchd.continue()
    assert.deepEqual(await bed.api.destroyBridge({ bridge: 'there' }), { leftInPlace: true })
    assert.deepEqual(await bed.api.destroyAllBridges(), { destroyed: ['br0'], leftInPlace: [] })
    for (const name of ['br0', 'atap', 'ahost', 'aveth', 'btap', 'bhost', 'bveth'])
      assert.equal(findLink(name), undefined, `${name} is still there`)
    assert.deepEqual(await bed.ovs.select('QoS'), [])
    await assert.rejects(bed.api.destroyBridge({ bridge: 'br0' }), { code: 'NOT_FOUND', reason: 'BRIDGE_NOT_FOUND' })
    await assert.rejects(bed.api.destroyBridge({ bridge: 'there' }), {
      code: 'FAILED_PRECONDITION',
      reason: 'NOT_OWNED',
    })
  },
)

laneTest('the taps of a bridge that somebody deleted are destroyed in its name', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await plugAll(bed, bed.api, 'br0', 'a')
  await bed.ovs.configure({ op: 'update', table: 'Open_vSwitch', where: [], row: { bridges: ['set', []] } })
  assert.deepEqual(await bed.api.destroyBridge({ bridge: 'br0' }), { leftInPlace: false })
  assert.deepEqual((await bed.api.listTaps({ includeDefunct: true })).taps, [])
  assert.deepEqual([findLink('atap'), findLink('aveth')], [undefined, undefined])
  assert.deepEqual(await bed.ovs.select('QoS'), [])
})

laneTest(
  'bridges that come and go at the same time do not get in the way of each other',
  { timeoutMs },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const before = await stateOf(bed)
    const many = Array.from({ length: 12 }, (_, i) => `many${i}`)
    // Each is asked for twice.
    const made = await Promise.all([...many, ...many].map(bridge => bed.api.ensureBridge({ bridge })))
    assert.ok(made.every(({ bridge }) => bridge?.preExist === false))
    const ports = await names(bed.ovs, 'Port')
    assert.deepEqual(ports, ['br0', ...many].sort())
    await Promise.all(many.map(bridge => bed.api.createTap({ bridge, tap: `${bridge}t` })))
    await Promise.all(many.map(bridge => bed.api.destroyBridge({ bridge })))
    assert.deepEqual(await stateOf(bed), before)
  },
)

laneTest(
  'a bridge is made anew while the device of its forerunner is on its way out',
  { looksInside: true, only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const index = findLink('br0')?.index
    bed.ovs.vswitchd.stop()
    await bed.ovs.transact({ op: 'update', table: 'Open_vSwitch', where: [], row: { bridges: ['set', []] } })
    const { committer } = bed.service.daemon.host
    await until('the service has heard of it', async () => (await bed.api.listBridges()).bridges.length === 0)
    const sent = committer.transactions
    const ensured = bed.api.ensureBridge()
    await until('it waits for ovs-vswitchd', () => committer.transactions > sent)
    bed.ovs.vswitchd.continue()
    assert.equal((await ensured).bridge?.preExist, false)
    assert.notEqual(findLink('br0')?.index, index)
  },
)

laneTest("somebody's bridge goes with its ports and their devices", {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  createVethPair({ name: 'wire' }, { name: 'eth0' }, bed.createContainer())
  const before = await stateOf(bed)
  await addForeignBridge(bed.ovs, 'foreign', [{ name: 'theirs', type: 'internal' }, { name: 'wire' }])
  await until('Open vSwitch has made the devices', () => findLink('foreign') && findLink('theirs'))
  assert.deepEqual(await bed.api.destroyUnmanagedBridge({ bridge: 'foreign' }), {})
  assert.deepEqual(await stateOf(bed), before)
})

laneTest(
  "devices of somebody's bridge go though ovs-vswitchd was killed before it removed them",
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api, ovs } = bed
    const before = await stateOf(bed)
    await addForeignBridge(ovs, 'foreign', [{ name: 'theirs', type: 'internal' }])
    await until('Open vSwitch has made the devices', () => findLink('foreign') && findLink('theirs'))
    ovs.vswitchd.stop()
    const destroyed = api.destroyUnmanagedBridge({ bridge: 'foreign' })
    await until('the bridge is gone', async () => (await ovs.select('Bridge')).length === 1)
    await ovs.vswitchd.restart()
    await destroyed
    assert.deepEqual(await stateOf(bed), before)
  },
)

/** A second daemon on the same Open vSwitch. */
async function startOther(bed: Testbed): Promise<Api> {
  return bed.use(await startService(bed, '--instance', 'other')).api
}

/** What the other daemon must not do to what is ours: code and reason of the refusal. */
const trespasses: Readonly<Record<string, readonly [(other: Api) => Promise<unknown>, string, string]>> = {
  'take over a bridge': [api => api.ensureBridge({ bridge: 'br0' }), 'FAILED_PRECONDITION', 'NOT_OWNED'],
  'see a bridge': [api => api.getBridge({ bridge: 'br0' }), 'NOT_FOUND', 'BRIDGE_NOT_FOUND'],
  'put a tap on a bridge': [api => api.createTap({ bridge: 'br0', tap: 'x' }), 'NOT_FOUND', 'BRIDGE_NOT_FOUND'],
  'configure a bridge': [
    api => api.setBridgeConfig({ bridge: 'br0', settings: ['stp_enable=true'] }),
    'NOT_FOUND',
    'BRIDGE_NOT_FOUND',
  ],
  'destroy a bridge': [api => api.destroyBridge({ bridge: 'br0' }), 'FAILED_PRECONDITION', 'NOT_OWNED'],
  'destroy a bridge as nobody’s': [
    api => api.destroyUnmanagedBridge({ bridge: 'br0' }),
    'FAILED_PRECONDITION',
    'NOT_OWNED',
  ],
  'destroy a bridge with our port as nobody’s': [
    api => api.destroyUnmanagedBridge({ bridge: 'foreign' }),
    'FAILED_PRECONDITION',
    'NOT_OWNED',
  ],
  'see a tap': [api => api.getTap({ tap: 'atap' }), 'NOT_FOUND', 'TAP_NOT_FOUND'],
  'move a tap': [api => api.moveTap({ tap: 'atap', bridge: 'br1' }), 'NOT_FOUND', 'TAP_NOT_FOUND'],
  'detach a tap': [api => api.removeTap({ tap: 'atap' }), 'NOT_FOUND', 'TAP_NOT_FOUND'],
  'adopt a tap': [api => api.addTap({ tap: 'atap', bridge: 'br1' }), 'FAILED_PRECONDITION', 'NOT_OWNED'],
  'destroy a tap': [api => api.destroyTap({ tap: 'atap' }), 'NOT_FOUND', 'TAP_NOT_FOUND'],
  'destroy a tap as nobody’s': [api => api.destroyUnmanagedTap({ tap: 'atap' }), 'FAILED_PRECONDITION', 'NOT_OWNED'],
  'take the name of a tap': [api => api.createTap({ bridge: 'br1', tap: 'atap' }), 'ALREADY_EXISTS', 'NAME_TAKEN'],
}

laneTest('two daemons of different instances keep out of each other’s way', { timeoutMs }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const other = await startOther(bed)
  await other.ensureBridge({ bridge: 'br1' })
  await plugAll(bed, bed.api, 'br0', 'a')
  await addForeignBridge(bed.ovs, 'foreign', [])
  await moveByHand(bed, 'atap', 'foreign')
  const before = await stateOf(bed)
  for (const [what, [trespass, code, reason]] of Object.entries(trespasses)) {
    await assert.rejects(trespass(other), { code, reason }, `to ${what}`)
  }
  assert.deepEqual(await stateOf(bed), before)
  await moveByHand(bed, 'atap', 'br0')
  const ours = await stateOf(bed)
  assert.deepEqual(
    (await other.listBridges()).bridges.map(({ name }) => name),
    ['br1'],
  )
  const theirs = await other.createTap({ bridge: 'br1' })
  const mine = await bed.api.createTap({ bridge: 'br0' })
  assert.notEqual(mine.tap?.name, theirs.tap?.name)
  await bed.api.destroyTap({ tap: mine.tap?.name ?? '' })
  assert.deepEqual((await other.reapTaps()).taps, [])
  assert.deepEqual(await other.destroyAllBridges(), { destroyed: ['br1'], leftInPlace: [] })
  await bed.api.reapTaps()
  const { database } = await stateOf(bed)
  assert.deepEqual(
    database['Port'],
    ours.database['Port']?.filter(row => !JSON.stringify(row).includes('"br1"')),
  )
})

/** Somebody puts a port on another bridge, beside us. */
async function moveByHand(bed: ServedTestbed, port: string, to: string): Promise<void> {
  const [row] = await bed.ovs.select('Port', [['name', '==', port]])
  const change = (where: unknown[], mutator: string) => ({
    op: 'mutate',
    table: 'Bridge',
    where,
    mutations: [['ports', mutator, row?.['_uuid']]],
  })
  await bed.ovs.transact(change([['name', '!=', to]], 'delete'), change([['name', '==', to]], 'insert'))
}

laneTest('a second daemon of one instance does not start', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await assert.rejects(startService(bed), /another daemon of the instance default/)
  const { bridge } = await bed.api.getBridge({ bridge: 'br0' })
  assert.equal(bridge?.name, 'br0')
})

laneTest('who lost its lock changes nothing, and goes on when it has it back', { looksInside: true }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const before = await bed.ovs.dump()
  const thief = await stealLock(bed.ovs, 'ovs_bridged_default')
  const refused = { code: 'UNAVAILABLE', reason: 'OVSDB_UNAVAILABLE' }
  await assert.rejects(bed.api.ensureBridge({ bridge: 'br1' }), refused)
  await assert.rejects(bed.api.createTap({ tap: 'one' }), refused)
  await assert.rejects(bed.api.setBridgeConfig({ settings: ['stp_enable=true'] }), refused)
  await assert.rejects(bed.api.destroyBridge({ bridge: 'br0' }), refused)
  assert.deepEqual(await bed.ovs.dump(), before)
  assert.equal(findLink('one'), undefined)
  thief[Symbol.dispose]()
  await until('the lock is back', () => bed.service.daemon.host.ovsdb.status.state === 'ready')
  await bed.api.createTap({ tap: 'one' })
})

/** Takes a lock of the database (RFC 7047 §4.1.8) and holds it until it is disposed of. */
async function stealLock({ endpoint }: PrivateOvs, lock: string): Promise<Disposable> {
  const connection = createConnection(endpoint.slice('unix:'.length))
  connection.write(JSON.stringify({ id: 0, method: 'steal', params: [lock] }))
  await once(connection, 'data')
  return { [Symbol.dispose]: () => void connection.destroy() }
}
