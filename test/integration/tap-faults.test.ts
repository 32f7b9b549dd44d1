import assert from 'node:assert/strict'
import { insertPort } from '../support/foreign-port.js'
import { openHeldSocket } from '../support/held-socket.js'
import { laneTest } from '../support/lane.js'
import { createVethPair, deleteLink, findLink } from '../support/links.js'
import { stateOf } from '../support/refusal.js'
import { type Api, blankTap, isServing } from '../support/rpc.js'
import { startServedTestbed, startService } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

laneTest('a device that cannot be made undoes those made before it', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  createVethPair({ name: 'three' }, { name: 'eth0' }, bed.createContainer())
  const before = await stateOf(bed)
  const taps = ['one', 'two', 'three', 'four'].map(tap => ({ ...blankTap, tap }))
  await assert.rejects(bed.api.createTaps({ taps }), { code: 'ALREADY_EXISTS', reason: 'NAME_TAKEN' })
  assert.deepEqual(await stateOf(bed), before)
})

type Kind = 'tuntap' | 'container' | 'host'

function create(api: Api, kind: Kind, tap: string, netns: string): Promise<unknown> {
  switch (kind) {
    case 'tuntap':
      return api.createTap({ tap })
    case 'container':
      return api.createContainerTap({ tap, netns })
    case 'host':
      return api.createHostTap({ tap })
  }
}

laneTest('a transaction that the database refuses undoes the device', { looksInside: true }, async context => {
  await using bed = await startTestbed(context.signal)
  const socket = bed.use(await openHeldSocket(bed.ovs.endpoint.slice('unix:'.length)))
  const ovs = { ...bed.ovs, endpoint: `unix:${socket.path}` }
  const { api, daemon } = bed.use(await startService({ ...bed, ovs }))
  await api.ensureBridge()
  const container = bed.createContainer()
  for (const kind of ['tuntap', 'container', 'host'] as const) {
    const sent = daemon.host.committer.transactions
    socket.hold()
    const refusal = { code: 'ALREADY_EXISTS', reason: 'NAME_TAKEN' }
    const ours = assert.rejects(create(api, kind, kind, container.path), refusal)
    await until('the transaction is on its way', () => daemon.host.committer.transactions > sent)
    assert.equal(findLink(kind) !== undefined, kind !== 'host', `the device of ${kind}`)
    await bed.ovs.transact(...insertPort('br0', kind))
    socket.release()
    await ours
    assert.equal(findLink(kind), undefined, `the device of ${kind}`)
    assert.deepEqual(await bed.ovs.select('QoS'), [])
  }
  assert.equal(
    container.run(() => findLink('veth0')),
    undefined,
  )
})

laneTest('a port that Open vSwitch cannot open is undone with its device', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const container = bed.createContainer()
  for (const kind of ['tuntap', 'container', 'host'] as const) {
    const before = await stateOf(bed)
    // Who makes a tap waits until ovs-vswitchd has heard that the one before is undone.
    await bed.ovs.configure()
    bed.ovs.vswitchd.stop()
    const refusal = { code: 'FAILED_PRECONDITION', reason: 'NOT_REALISED' }
    const refused = assert.rejects(create(bed.api, kind, kind, container.path), refusal)
    await until('the port is committed', async () => (await bed.ovs.select('Port')).length === 2)
    // Open vSwitch opens no device that is gone, and makes none whose name there is.
    if (kind === 'host') createVethPair({ name: kind }, { name: 'eth0' }, container)
    else deleteLink(findLink(kind)?.index ?? 0)
    bed.ovs.vswitchd.continue()
    await refused
    if (kind === 'host') deleteLink(findLink(kind)?.index ?? 0)
    assert.deepEqual(await stateOf(bed), before, kind)
  }
})

laneTest(
  'a tap has its MTU, also where ovs-vswitchd tells that later than the index',
  { looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    bed.ovs.vswitchd.stop()
    const created = bed.api.createTap({ tap: 'one' })
    const where = [['name', '==', 'one']]
    await until('the port is committed', async () => (await bed.ovs.select('Interface', where)).length > 0)
    const [{ next_cfg: epoch } = {}] = await bed.ovs.select('Open_vSwitch')
    const ifindex = findLink('one')?.index
    // As ovs-vswitchd would.
    await bed.ovs.transact(
      { op: 'update', table: 'Interface', where, row: { ofport: 7, ifindex } },
      { op: 'update', table: 'Open_vSwitch', where: [], row: { cur_cfg: epoch } },
    )
    const { ovsdb } = bed.service.daemon.host
    await ovsdb.waitFor(
      replica => Number(replica.find('Interface', 'name', 'one')?.ifindex) === ifindex || undefined,
      context.signal,
    )
    // By then a call that does not wait has its answer.
    await bed.api.getTap({ tap: 'one' })
    await bed.ovs.transact({ op: 'update', table: 'Interface', where, row: { mtu: 1_400 } })
    assert.equal((await created).tap?.mtu, 1_400)
    bed.ovs.vswitchd.continue()
  },
)

laneTest('a bridge that goes while its tap is made takes nothing but itself', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.ensureBridge({ bridge: 'br1' })
  bed.ovs.vswitchd.stop()
  const refused = assert.rejects(bed.api.createTap({ tap: 'orphan', bridge: 'br1' }), {
    code: 'ABORTED',
    reason: 'CONFLICT',
  })
  await until(
    'the port is committed',
    async () => (await bed.ovs.select('Port', [['name', '==', 'orphan']])).length > 0,
  )
  const [row] = await bed.ovs.select('Bridge', [['name', '==', 'br1']])
  await bed.ovs.transact({
    op: 'mutate',
    table: 'Open_vSwitch',
    where: [],
    mutations: [['bridges', 'delete', row?.['_uuid']]],
  })
  bed.ovs.vswitchd.continue()
  await refused
  assert.equal(findLink('orphan'), undefined)
  assert.deepEqual(await bed.ovs.select('QoS'), [])
})

laneTest('a stopped ovs-vswitchd ends a call at its deadline, and reads go on', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'there' })
  const before = await stateOf(bed)
  bed.ovs.vswitchd.stop()
  // A busy machine may hold up one of them.
  const tookMs: number[] = []
  do {
    const startedAt = performance.now()
    await assert.rejects(bed.api.createTap({ tap: 'late' }, { timeoutMs: 2_000 }), { code: 'DEADLINE_EXCEEDED' })
    tookMs.push(performance.now() - startedAt)
    await until('the call is undone', () => findLink('late') === undefined)
  } while (tookMs.length < 3 && Math.min(...tookMs) > 2_500)
  assert(Math.min(...tookMs) <= 2_500, `it took ${tookMs.join(', ')} ms`)
  assert.equal((await bed.api.getTap({ tap: 'there' })).tap?.name, 'there')
  assert.equal((await bed.api.checkOvs()).vswitchdAnswers, false)
  await until('the service says that it cannot serve', async () => !(await isServing(bed.service.address)))
  assert.deepEqual(await stateOf(bed), before)
  bed.ovs.vswitchd.continue()
  const { tap } = await bed.api.createTap({ tap: 'late' })
  assert.deepEqual([tap?.name, tap?.ovsError], ['late', ''])
  await until('the service says that it serves', () => isServing(bed.service.address))
})

laneTest('without ovsdb-server calls fail at once, and work again when it is back', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.ovs.ovsdbServer.kill()
  await until('the service has noticed', async () => !(await bed.api.checkOvs()).ovsdbConnected)
  await assert.rejects(bed.api.createTap({ tap: 'late' }), { code: 'UNAVAILABLE', reason: 'OVSDB_UNAVAILABLE' })
  assert.equal(findLink('late'), undefined)
  assert.equal(await isServing(bed.service.address), false)
  await bed.ovs.ovsdbServer.restart()
  await until('the service is connected', async () => (await bed.api.checkOvs()).ovsdbConnected)
  assert.equal((await bed.api.createTap({ tap: 'late' })).tap?.name, 'late')
  await until('the service says that it serves', () => isServing(bed.service.address))
})

laneTest(
  'a call whose transaction a crash swallows is made when the database is back',
  { looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    bed.ovs.ovsdbServer.stop()
    const { committer } = bed.service.daemon.host
    const sent = committer.transactions
    const made = bed.api.createTap({ tap: 'cut', vlan: 7 })
    await until('the transaction has left', () => committer.transactions > sent)
    await bed.ovs.ovsdbServer.kill()
    await bed.ovs.ovsdbServer.restart()
    assert.deepEqual([(await made).tap?.vlan, (await made).tap?.ovsError], [7, ''])
  },
)
