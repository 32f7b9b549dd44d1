import assert from 'node:assert/strict'
import { TapState } from '../../src/gen/ovs/bridge/v1/tap.js'
import { insertPort } from '../support/foreign-port.js'
import { openHeldSocket } from '../support/held-socket.js'
import { laneTest } from '../support/lane.js'
import { deleteLink, findLink } from '../support/links.js'
import { addForeignBridge } from '../support/ovs.js'
import { RpcError } from '../support/rpc.js'
import { type ServedTestbed, startServedTestbed, startService } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

/** The reasons for which calls were refused; empty for those that were not. */
async function reasonsOf(calls: readonly Promise<unknown>[]): Promise<readonly string[]> {
  const outcomes = await Promise.allSettled(calls)
  return outcomes.map(outcome => {
    if (outcome.status === 'fulfilled') return ''
    if (outcome.reason instanceof RpcError) return `${outcome.reason.code} ${outcome.reason.reason}`
    throw outcome.reason
  })
}

laneTest('a call that loses a race within a shared transaction fails alone', { looksInside: true }, async context => {
  await using bed = await startTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'foreign', [])
  const socket = bed.use(await openHeldSocket(bed.ovs.endpoint.slice('unix:'.length)))
  const ovs = { ...bed.ovs, endpoint: `unix:${socket.path}` }
  const { api, daemon } = bed.use(await startService({ ...bed, ovs }))
  await api.ensureBridge()
  const { committer, inTheMaking } = daemon.host
  // What needs ovs-vswitchd waits until it has applied the first, and then goes together.
  bed.ovs.vswitchd.stop()
  const started = committer.transactions
  const first = api.createTap({ tap: 'first' })
  await until('the first is committed', () => committer.transactions > started)
  await until('it is there', async () => (await bed.ovs.select('Port', [['name', '==', 'first']])).length > 0)
  const names = Array.from({ length: 20 }, (_, i) => `racer${i}`)
  const racers = reasonsOf(names.map(tap => api.createTap({ tap })))
  await until('they are on their way', () => inTheMaking.size === names.length)
  socket.hold()
  bed.ovs.vswitchd.continue()
  await until('their transaction is on its way', () => committer.transactions === started + 2)
  await bed.ovs.transact(...insertPort('foreign', 'racer7'))
  socket.release()
  await first
  assert.deepEqual(
    await racers,
    names.map(name => (name === 'racer7' ? 'ALREADY_EXISTS NAME_TAKEN' : '')),
  )
  assert.equal(findLink('racer7'), undefined)
  const { taps } = await api.listTaps()
  assert.deepEqual(taps.map(tap => tap.name).sort(), ['first', ...names.filter(name => name !== 'racer7')].sort())
})

laneTest('of callers that want one name at a time one gets it', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const reasons = await reasonsOf(Array.from({ length: 16 }, () => bed.api.createTap({ tap: 'wanted' })))
  assert.deepEqual([...reasons].sort(), ['', ...Array.from({ length: 15 }, () => 'ALREADY_EXISTS NAME_TAKEN')])
  const { tap } = await bed.api.getTap({ tap: 'wanted' })
  assert.deepEqual([tap?.name, tap?.ovsError], ['wanted', ''])
  const [row] = await bed.ovs.select('Interface', [['name', '==', 'wanted']])
  assert.equal(row?.['ifindex'], findLink('wanted')?.index)
  assert.equal((await bed.ovs.select('QoS')).length, 1)
})

laneTest('a destruction that is late leaves a new tap of its name alone', { looksInside: true }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { kernel } = bed.service.daemon.host
  const getLink = kernel.getLink.bind(kernel)
  let goOn: () => void = () => undefined
  const held = new Promise<void>(resolve => (goOn = resolve))
  await bed.api.createTap({ tap: 'tap0' })
  let lookups = 0
  kernel.getLink = async (name, signal) => {
    if (lookups++ === 0) await held
    return await getLink(name, signal)
  }
  const late = bed.api.destroyTap({ tap: 'tap0' })
  await until('it looks for the device', () => lookups === 1)
  const { tap } = await bed.api.createTap({ tap: 'tap0', vlan: 7 })
  const index = findLink('tap0')?.index
  goOn()
  await late
  assert.notEqual(index, undefined)
  assert.equal(findLink('tap0')?.index, index)
  assert.deepEqual((await bed.api.getTap({ tap: 'tap0' })).tap, tap)
})

/** A CreateTap whose port is committed, and which waits for an ovs-vswitchd that is stopped. */
async function halfway(bed: ServedTestbed, tap: string) {
  bed.ovs.vswitchd.stop()
  const made = bed.api.createTap({ tap })
  await until('its port is committed', async () => (await bed.ovs.select('Port', [['name', '==', tap]])).length > 0)
  return made
}

laneTest('callers that come together share transactions', { looksInside: true }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { committer, inTheMaking } = bed.service.daemon.host
  // While ovs-vswitchd has a change before it, those that come wait, and then go together.
  const first = halfway(bed, 'first')
  await until('the first is told', () => bed.api.getTap({ tap: 'first' }))
  const before = committer.transactions
  const names = Array.from({ length: 64 }, (_, i) => `tap${i}`)
  const made = Promise.all(names.map(tap => bed.api.createTap({ tap })))
  await until('they are on their way', () => inTheMaking.size === names.length)
  // Their devices would only keep it from coming to an end.
  assert.deepEqual(names.filter(findLink), [])
  bed.ovs.vswitchd.continue()
  await Promise.all([first, made])
  assert(committer.transactions - before <= 16, `${committer.transactions - before} transactions for 64 taps`)
  const { taps } = await bed.api.listTaps()
  assert.deepEqual(taps.map(({ name }) => name).sort(), ['first', ...names].sort())
})

laneTest(
  'who makes a tap does not wait for changes that ovs-vswitchd need not act on',
  { looksInside: true },
  async context => {
    await using bed = await startTestbed(context.signal)
    const socket = bed.use(await openHeldSocket(bed.ovs.endpoint.slice('unix:'.length)))
    const ovs = { ...bed.ovs, endpoint: `unix:${socket.path}` }
    const { api, daemon } = bed.use(await startService({ ...bed, ovs }))
    await api.ensureBridge()
    await api.createTap({ tap: 'detached' })
    await api.removeTap({ tap: 'detached' })
    const { committer } = daemon.host
    const sent = committer.transactions
    socket.hold()
    const changed = api.setTapQinQ({ tap: 'detached', outerVlan: 100 })
    await until('the change is on its way', () => committer.transactions > sent)
    const made = api.createTap({ tap: 'made' })
    await until('its device is made', () => findLink('made'))
    socket.release()
    await Promise.all([changed, made])
  },
)

laneTest('a call whose bridge is gone when its turn comes makes no device', { looksInside: true }, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.ensureBridge({ bridge: 'br1' })
  const { kernel, inTheMaking } = bed.service.daemon.host
  const createTaps = kernel.createTaps.bind(kernel)
  const made: string[] = []
  kernel.createTaps = async (specs, signal) => {
    made.push(...specs.map(({ name }) => name))
    return await createTaps(specs, signal)
  }
  const first = halfway(bed, 'first')
  await until('the first is told', () => bed.api.getTap({ tap: 'first' }))
  const late = bed.api.createTap({ tap: 'late', bridge: 'br1' })
  const refused = assert.rejects(late, { code: 'NOT_FOUND', reason: 'BRIDGE_NOT_FOUND' })
  await until('it waits', () => inTheMaking.size === 1)
  const [bridge] = await bed.ovs.select('Bridge', [['name', '==', 'br1']])
  const mutations = [['bridges', 'delete', bridge?.['_uuid']]]
  await bed.ovs.transact({ op: 'mutate', table: 'Open_vSwitch', where: [], mutations })
  bed.ovs.vswitchd.continue()
  await Promise.all([first, refused])
  assert.deepEqual(made, ['first'])
})

laneTest('changes of one tap at a time are all kept', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.ensureBridge({ bridge: 'br1' })
  await bed.api.createTap({ tap: 'tap0', vlan: 1 })
  await Promise.all([
    bed.api.setTapQinQ({ tap: 'tap0', outerVlan: 100 }),
    bed.api.moveTap({ tap: 'tap0', vlan: 2 }),
    bed.api.moveTap({ tap: 'tap0', bridge: 'br1' }),
  ])
  const { tap } = await bed.api.getTap({ tap: 'tap0' })
  assert.deepEqual([tap?.bridge, tap?.vlan, tap?.qinqOuterVlan], ['br1', 2, 100])
})

laneTest('a device that is being made for one call is not for another to take or destroy', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  // The device is there, and its port cannot be committed.
  bed.ovs.ovsdbServer.stop()
  const made = bed.api.createTap({ tap: 'tap0' })
  await until('its device is made', () => findLink('tap0'))
  const refusal = { code: 'FAILED_PRECONDITION', reason: 'NOT_OWNED' }
  await assert.rejects(bed.api.addTap({ tap: 'tap0' }), refusal)
  await assert.rejects(bed.api.destroyUnmanagedTap({ tap: 'tap0' }), refusal)
  bed.ovs.ovsdbServer.continue()
  assert.equal((await made).tap?.ovsError, '')
})

laneTest('a tap that another call takes away while it is made has been made all the same', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const destroyed = halfway(bed, 'tap0')
  await until('it is told', () => bed.api.getTap({ tap: 'tap0' }))
  await bed.api.destroyTap({ tap: 'tap0' })
  bed.ovs.vswitchd.continue()
  assert.equal((await destroyed).tap?.state, TapState.DEFUNCT)
  assert.equal(findLink('tap0'), undefined)
  const detached = halfway(bed, 'tap1')
  await until('it is told', () => bed.api.getTap({ tap: 'tap1' }))
  // Without its device ovs-vswitchd fails to open it, until the other call comes.
  deleteLink(findLink('tap1')?.index ?? 0)
  bed.ovs.vswitchd.continue()
  await bed.api.removeTap({ tap: 'tap1' })
  assert.equal((await detached).tap?.state, TapState.DETACHED)
  assert.equal((await bed.api.getTap({ tap: 'tap1' })).tap?.state, TapState.DETACHED)
})

laneTest('what another call has made of a tap outlives the failure of the call that made it', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const failed = halfway(bed, 'tap0')
  await until('it is told', () => bed.api.getTap({ tap: 'tap0' }))
  deleteLink(findLink('tap0')?.index ?? 0)
  bed.ovs.vswitchd.continue()
  // It makes a device anew, which is not the one that the first call waits for.
  const { tap } = await bed.api.moveTap({ tap: 'tap0', vlan: 7 })
  await assert.rejects(failed, { code: 'FAILED_PRECONDITION', reason: 'NOT_REALISED' })
  assert.deepEqual((await bed.api.getTap({ tap: 'tap0' })).tap, tap)
  assert.equal(tap?.vlan, 7)
  const [row] = await bed.ovs.select('Interface', [['name', '==', 'tap0']])
  assert.equal(row?.['ifindex'], findLink('tap0')?.index)
})
