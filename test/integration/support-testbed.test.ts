import assert from 'node:assert/strict'
import { openPacketSocket } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { addAddress, createVethPair, findLink, listLinks } from '../support/links.js'
import type { Namespace } from '../support/namespace.js'
import { linkNames } from '../support/namespace.js'
import { addForeignBridge } from '../support/ovs.js'
import { expectNoPing, ping } from '../support/ping.js'
import { startTestbed, type Testbed } from '../support/testbed.js'

/** A container with `eth0` at `address`, whose other end is `host` in the test's namespace. */
function plug(bed: Testbed, host: string, ...addresses: readonly string[]): Namespace {
  const container = bed.createContainer(host)
  createVethPair({ name: host }, { name: 'eth0' }, container)
  container.run(() => {
    for (const address of addresses) addAddress('eth0', address)
  })
  return container
}

laneTest('two containers reach each other over a bridge, and not over a VLAN', {}, async context => {
  await using bed = await startTestbed(context.signal)
  const red = plug(bed, 'red', '10.0.0.1/24', 'fd00::1/64')
  plug(bed, 'blue', '10.0.0.2/24', 'fd00::2/64')
  plug(bed, 'green', '10.0.0.3/24')
  await addForeignBridge(bed.ovs, 'br0', [{ name: 'red' }, { name: 'blue' }, { name: 'green', tag: 7 }])
  assert((await ping(red, '10.0.0.2')) < 1000)
  await ping(red, 'fd00::2')
  await expectNoPing(red, '10.0.0.3')
})

laneTest('a frame is shown with the tag that the kernel took out of it', {}, async context => {
  await using bed = await startTestbed(context.signal)
  const red = plug(bed, 'red', '10.0.0.1/24')
  const blue = plug(bed, 'blue')
  await addForeignBridge(bed.ovs, 'br0', [{ name: 'red', tag: 5 }, { name: 'blue' }])
  const trunk = bed.use(blue.run(() => openPacketSocket('eth0')))
  await expectNoPing(red, '10.0.0.9')
  const request = await trunk.receive('an ARP request', frame => frame.etherType === 0x0806)
  assert.equal(request.vlan, 5)
  assert.equal(request.bytes.readUInt16BE(12), 0x8100)
})

laneTest('Open vSwitch can be stopped, killed and started again', {}, async context => {
  await using bed = await startTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'br0', [{ name: 'in0', type: 'internal' }])
  const before = await bed.ovs.dump()
  const { pid } = bed.ovs.vswitchd
  bed.ovs.vswitchd.stop()
  bed.ovs.vswitchd.continue()
  await bed.ovs.vswitchd.restart()
  await bed.ovs.ovsdbServer.restart()
  assert.notEqual(bed.ovs.vswitchd.pid, pid)
  assert.deepEqual(await bed.ovs.dump(), before)
  assert.notEqual(findLink('in0'), undefined)
})

laneTest('a dump shows what another program changed, and only that', {}, async context => {
  await using bed = await startTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'br0', [])
  const before = await bed.ovs.dump()
  await bed.ovs.configure({ op: 'update', table: 'Port', where: [['name', '==', 'br0']], row: { tag: 9 } })
  const after = await bed.ovs.dump()
  assert.deepEqual({ ...after, Port: [] }, { ...before, Port: [] })
  assert.notDeepEqual(after['Port'], before['Port'])
})

laneTest('a namespace is empty when its test begins', {}, async context => {
  const outside = listLinks()
  {
    await using bed = await startTestbed(context.signal)
    const container = bed.createContainer()
    createVethPair({ name: 'h0' }, { name: 'eth0' }, container)
    assert(linkNames().includes('h0'))
    assert(container.run(linkNames).includes('eth0'))
  }
  assert.deepEqual(
    listLinks().map(link => link.name),
    outside.map(link => link.name),
  )
})

laneTest('a dump is the same for rows that were made again', {}, async context => {
  await using bed = await startTestbed(context.signal)
  const makeAgain = async () => {
    const mutations = [['bridges', 'delete', ['set', (await bed.ovs.select('Bridge')).map(row => row['_uuid'])]]]
    await bed.ovs.configure({ op: 'mutate', table: 'Open_vSwitch', where: [], mutations })
    await addForeignBridge(bed.ovs, 'br0', [{ name: 'in0', type: 'internal', tag: 3 }])
    const netflow = { op: 'insert', table: 'NetFlow', 'uuid-name': 'flow', row: { targets: '127.0.0.1:2055' } }
    const use = { op: 'update', table: 'Bridge', where: [], row: { netflow: ['named-uuid', 'flow'] } }
    await bed.ovs.configure(netflow, use)
    return bed.ovs.dump()
  }
  const before = await makeAgain()
  assert.deepEqual(await makeAgain(), before)
})
