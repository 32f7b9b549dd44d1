import assert from 'node:assert/strict'
import { insertPort } from '../support/foreign-port.js'
import { type FrameSocket, openPacketSocket, openTap, passes } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { createVethPair } from '../support/links.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

const customer = Buffer.from('81000007', 'hex')
const service = Buffer.from('88a80064', 'hex')

/** A broadcast with these tags, whose payload begins with `mark`. */
function broadcast(mark: number, ...tags: readonly Buffer[]): Buffer {
  const addresses = Buffer.concat([Buffer.alloc(6, 0xff), Buffer.from('020000000001', 'hex')])
  const payload = Buffer.concat([Buffer.from('88b5', 'hex'), Buffer.from([mark]), Buffer.alloc(49)])
  return Buffer.concat([addresses, ...tags, payload])
}

/** The far end of a trunk that somebody else has put on br0, for the outer VLAN 100. */
async function trunkOf(bed: ServedTestbed): Promise<FrameSocket> {
  const far = bed.createContainer('far')
  createVethPair({ name: 'trunk0' }, { name: 'wire' }, far)
  await bed.ovs.configure(...insertPort('br0', 'trunk0', { trunks: 100 }))
  return bed.use(far.run(() => openPacketSocket('wire')))
}

async function machineOf(bed: ServedTestbed): Promise<FrameSocket> {
  await bed.api.createTap({ tap: 'vm0', vlan: 5 })
  const { tap } = await bed.api.setTapQinQ({ tap: 'vm0', outerVlan: 100 })
  assert.equal(tap?.qinqOuterVlan, 100)
  return bed.use(openTap('vm0'))
}

const marked = (mark: number) => (frame: { readonly etherType: number; readonly payload: Buffer }) =>
  frame.etherType === 0x88b5 && frame.payload[0] === mark

/** Frames as they leave the bridge by the trunk, and as they come back. */
async function assertCarried(machine: FrameSocket, wire: FrameSocket): Promise<void> {
  const outward = { from: machine, to: wire }
  const out = await passes('the tagged frame', outward, broadcast(1, customer), marked(1))
  assert.deepEqual(out.bytes, broadcast(1, service, customer))
  const untaggedOut = await passes('the untagged frame', outward, broadcast(2), marked(2))
  assert.deepEqual(untaggedOut.bytes, broadcast(2, service))
  const inward = { from: wire, to: machine }
  const back = await passes('the double-tagged frame', inward, broadcast(3, service, customer), marked(3))
  assert.deepEqual(back.bytes, broadcast(3, customer))
  const untaggedBack = await passes('the single-tagged frame', inward, broadcast(4, service), marked(4))
  assert.deepEqual(untaggedBack.bytes, broadcast(4))
}

laneTest("a tag of the endpoint's travels in the outer VLAN, and back", {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const machine = await machineOf(bed)
  const wire = await trunkOf(bed)
  await assertCarried(machine, wire)
  await bed.api.setTapQinQ({ tap: 'vm0' })
  // The datapath goes on for a moment with the flows that it had, until ovs-vswitchd has revalidated them.
  await until('tagged frames of an access port go nowhere', async () => {
    wire.drain()
    machine.send(broadcast(5, customer))
    await wire.receiveNone('a tagged frame of an access port', marked(5), 200)
    return true
  })
})

laneTest('the outer VLAN does not depend on how many tags Open vSwitch looks at', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const mutations = [['other_config', 'insert', ['map', [['vlan-limit', '2']]]]]
  await bed.ovs.configure({ op: 'mutate', table: 'Open_vSwitch', where: [], mutations })
  const machine = await machineOf(bed)
  await assertCarried(machine, await trunkOf(bed))
})
