import assert from 'node:assert/strict'
import { ethernet } from '../support/address-frames.js'
import { openPacketSocket, openTap, passes } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { addAddress, findLink } from '../support/links.js'
import { expectNoPing, ping } from '../support/ping.js'
import { plug } from '../support/plug.js'
import { startServedTestbed } from '../support/service.js'

laneTest('containers reach each other on a VLAN, and not over VLANs', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const red = await plug(bed, 'red', '10.0.0.1/24', { vlan: 10 })
  await plug(bed, 'blue', '10.0.0.2/24', { vlan: 10 })
  await plug(bed, 'green', '10.0.0.3/24', { vlan: 20 })
  await ping(red, '10.0.0.2')
  await expectNoPing(red, '10.0.0.3')
})

laneTest('a container hears nothing of a host address on another VLAN, not even over ARP', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const red = await plug(bed, 'red', '10.0.0.1/24', { vlan: 10 })
  const green = await plug(bed, 'green', '10.0.0.3/24', { vlan: 20 })
  await bed.api.createHostTap({ tap: 'host0', vlan: 10 })
  addAddress('host0', '10.0.0.9/24')
  await ping(red, '10.0.0.9')
  const wire = bed.use(green.run(() => openPacketSocket('veth0')))
  await expectNoPing(green, '10.0.0.9')
  const replies = wire.drain().filter(frame => frame.etherType === 0x0806 && frame.bytes.readUInt16BE(20) === 2)
  assert.deepEqual(replies, [])
})

laneTest('a host tap with an address reaches a container', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await plug(bed, 'red', '10.0.0.1/24')
  await bed.api.createHostTap({ tap: 'host0' })
  addAddress('host0', '10.0.0.9/24')
  await ping(bed.namespace, '10.0.0.1')
})

// The kernel's datapath looks at the device itself.
laneTest('frames come out of a host tap from the moment its call returns', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'vm' })
  const vm = bed.use(openTap('vm'))
  for (let i = 0; i < 20; i++) {
    const tap = `host${i}`
    await bed.api.createHostTap({ tap })
    const host = bed.use(openPacketSocket(tap))
    // Of another source and to another destination each time: no flow of before is for it.
    vm.send(
      ethernet({ source: `02:00:00:00:01:${10 + i}`, destination: `02:00:00:00:02:${10 + i}` }, 0x88b5, Buffer.of()),
    )
    await host.receive(`the frame at ${tap}`, ({ etherType }) => etherType === 0x88b5, { deadlineMs: 5_000 })
  }
})

laneTest('a program that opens a tuntap tap passes a frame to another tap', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { tap: first } = await bed.api.createTap({ tap: 'one', vlan: 10, mac: '02:00:00:00:00:01' })
  const { tap: second } = await bed.api.createTap({ tap: 'two', vlan: 10, mac: '02:00:00:00:00:02' })
  const from = bed.use(openTap(first?.name ?? ''))
  const to = bed.use(openTap(second?.name ?? ''))
  const frame = Buffer.concat([Buffer.from('02000000000202000000000188b5', 'hex'), Buffer.alloc(50, 0x5a)])
  const received = await passes('the frame', { from, to }, frame, ({ etherType }) => etherType === 0x88b5)
  assert.deepEqual(received.bytes, frame)
})

laneTest('a tap comes with the settings it was asked for', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { tap } = await bed.api.createTap({
    mac: '02-AA-00-00-00-01',
    vlan: 7,
    mtu: 1400,
    ownerUid: 1000,
    multiQueue: true,
  })
  assert.equal(tap?.name, 'tap0')
  assert.equal(tap?.mac, '02:aa:00:00:00:01')
  assert.deepEqual([tap?.vlan, tap?.mtu, tap?.ownerUid, tap?.multiQueue], [7, 1400, 1000, true])
  assert.notEqual(findLink('tap0'), undefined)
  assert.deepEqual(await bed.api.getTap({ tap: 'tap0' }), { tap })
})
