import assert from 'node:assert/strict'
import { type Frame, type FrameSocket, openPacketSocket, openTap, passes } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { changeLink, createVethPair, findLink } from '../support/links.js'
import { addForeignBridge } from '../support/ovs.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

const experimental = 0x88b5

/** A broadcast that names its sender, with an 802.1Q tag where there is one. */
function broadcast(sender: number, vlan?: number): Buffer {
  const tag = vlan === undefined ? Buffer.alloc(0) : Buffer.from([0x81, 0x00, vlan >> 8, vlan & 0xff])
  const type = Buffer.from([experimental >> 8, experimental & 0xff])
  return Buffer.concat([Buffer.alloc(6, 0xff), Buffer.from([2, 0, 0, 0, 0, sender]), tag, type, Buffer.alloc(50)])
}

/** Whether a frame is the broadcast of a sender. */
function isFrom(sender: number): (frame: Frame) => boolean {
  const source = `02:00:00:00:00:${sender.toString(16).padStart(2, '0')}`
  return frame => frame.etherType === experimental && frame.source === source
}

/** A veth of the host: `name` here, and the wire at its other end. */
function cable(bed: ServedTestbed, name: string): FrameSocket {
  const far = bed.createContainer('far')
  createVethPair({ name }, { name: 'wire' }, far)
  return bed.use(far.run(() => openPacketSocket('wire')))
}

/** What is behind a tuntap tap on a VLAN. */
async function machineOn(bed: ServedTestbed, vlan: number): Promise<FrameSocket> {
  const { tap } = await bed.api.createTap({ tap: `vm${vlan}`, vlan })
  return bed.use(openTap(tap?.name ?? ''))
}

laneTest('a trunk carries the VLANs of its list tagged, in both directions, and no others', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const wire = cable(bed, 'up0')
  const { trunk } = await bed.api.addTrunk({ interface: 'up0', vlans: [20, 10] })
  assert.deepEqual(trunk, { interface: 'up0', bridge: 'br0', vlans: [10, 20] })
  const [ten, twenty, thirty] = [await machineOn(bed, 10), await machineOn(bed, 20), await machineOn(bed, 30)]
  thirty.send(broadcast(30))
  for (const [vlan, machine] of [
    [10, ten],
    [20, twenty],
  ] as const) {
    const frame = await passes(`VLAN ${vlan}`, { from: machine, to: wire }, broadcast(vlan), isFrom(vlan))
    assert.equal(frame.vlan, vlan)
  }
  await wire.receiveNone('VLAN 30', isFrom(30), 200)
  wire.send(broadcast(0xaa, 30))
  const inward = await passes('VLAN 20 inward', { from: wire, to: twenty }, broadcast(0xaa, 20), isFrom(0xaa))
  assert.equal(inward.vlan, undefined)
  await thirty.receiveNone('VLAN 30 inward', isFrom(0xaa), 200)
})

laneTest('a trunk without a list carries every VLAN, and its device outlives it unchanged', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const wire = cable(bed, 'up0')
  cable(bed, 'down0')
  changeLink({ name: 'down0', up: false })
  const before = [findLink('up0'), findLink('down0')].map(lasting)
  await bed.api.addTrunk({ interface: 'up0' })
  await bed.api.addTrunk({ interface: 'down0' })
  const { bridge } = await bed.api.getBridge({ bridge: 'br0' })
  assert.deepEqual(bridge?.trunks, ['down0', 'up0'])
  const thirty = await machineOn(bed, 30)
  const frame = await passes('VLAN 30', { from: thirty, to: wire }, broadcast(30), isFrom(30))
  assert.equal(frame.vlan, 30)
  await bed.api.removeTrunk({ interface: 'down0' })
  const { bridge: without } = await bed.api.removeTrunk({ interface: 'up0' })
  assert.deepEqual(without?.trunks, [])
  assert.deepEqual(await bed.ovs.select('Port', [['name', '==', 'up0']]), [])
  await until('the devices are as they were', () => {
    assert.deepEqual([findLink('up0'), findLink('down0')].map(lasting), before)
    return true
  })
  thirty.send(broadcast(31))
  await wire.receiveNone('a frame', isFrom(31), 200)
})

/** What of a device is to be the same later. */
function lasting(link: ReturnType<typeof findLink>) {
  assert(link !== undefined)
  const { index, name, mac, mtuBytes, up, promiscuous, alias, group } = link
  return { index, name, mac, mtuBytes, up, promiscuous, alias, group }
}

laneTest('what cannot be a trunk is refused and leaves nothing', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api } = bed
  await addForeignBridge(bed.ovs, 'foreign', [{ name: 'theirs', type: 'internal' }])
  cable(bed, 'up0')
  cable(bed, 'up1')
  await api.createTap({ tap: 'tap0' })
  await api.createTap({ tap: 'detached' })
  await api.removeTap({ tap: 'detached' })
  await api.addTrunk({ interface: 'up1' })
  await api.ensureBridge({ bridge: 'br1' })
  const before = await bed.ovs.dump()
  const refused = async (call: Promise<unknown>, code: string, reason: string) => {
    await assert.rejects(call, { code, reason })
  }
  await refused(api.addTrunk({ interface: 'nowhere' }), 'NOT_FOUND', 'DEVICE_NOT_FOUND')
  await refused(api.addTrunk({ interface: 'up0', bridge: 'foreign' }), 'NOT_FOUND', 'BRIDGE_NOT_FOUND')
  for (const taken of ['up1', 'tap0', 'detached', 'br0', 'theirs', 'foreign']) {
    await refused(api.addTrunk({ interface: taken }), 'ALREADY_EXISTS', 'NAME_TAKEN')
  }
  for (const vlans of [[4096], [10, 10]]) {
    await refused(api.addTrunk({ interface: 'up0', vlans }), 'INVALID_ARGUMENT', 'INVALID_FIELD')
  }
  await refused(api.addTrunk({ interface: 'lo' }), 'INVALID_ARGUMENT', 'INVALID_FIELD')
  for (const none of ['up0', 'tap0', 'br0', 'theirs', 'nowhere']) {
    await refused(api.removeTrunk({ interface: none }), 'NOT_FOUND', 'TRUNK_NOT_FOUND')
  }
  await refused(api.removeTrunk({ interface: 'up1', bridge: 'br1' }), 'NOT_FOUND', 'TRUNK_NOT_FOUND')
  await refused(api.destroyTap({ tap: 'up1' }), 'NOT_FOUND', 'TAP_NOT_FOUND')
  await refused(api.destroyUnmanagedTap({ tap: 'up1' }), 'FAILED_PRECONDITION', 'NOT_OWNED')
  assert.deepEqual(await bed.ovs.dump(), before)
})
