import assert from 'node:assert/strict'
import { TapKind, TapState } from '../../src/gen/ovs/bridge/v1/tap.js'
import { openTap, passes } from '../support/frame-socket.js'
import { lane, laneTest } from '../support/lane.js'
import { addAddress, deleteLink, findLink } from '../support/links.js'
import { ping, pingsCease } from '../support/ping.js'
import { plug } from '../support/plug.js'
import { startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

laneTest(
  'packets follow a tap to its new VLAN and to its new bridge, and no longer come where it was',
  {},
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.ensureBridge({ bridge: 'br1' })
    const red = await plug(bed, 'red', '10.0.0.1/24', { vlan: 10 })
    await plug(bed, 'ten', '10.0.0.2/24', { vlan: 10 })
    await plug(bed, 'twenty', '10.0.0.3/24', { vlan: 20 })
    await plug(bed, 'other', '10.0.0.4/24', { bridge: 'br1', vlan: 20 })
    await ping(red, '10.0.0.2')
    await bed.api.moveTap({ tap: 'red', vlan: 20 })
    await ping(red, '10.0.0.3')
    await pingsCease(red, '10.0.0.2')
    await bed.api.moveTap({ tap: 'red', bridge: 'br1' })
    await ping(red, '10.0.0.4')
    await pingsCease(red, '10.0.0.3')
  },
)

laneTest('a detached tap passes nothing, and on another bridge it passes packets again', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.ensureBridge({ bridge: 'br1' })
  const red = await plug(bed, 'red', '10.0.0.1/24', { vlan: 10 })
  await plug(bed, 'ten', '10.0.0.2/24', { vlan: 10 })
  await plug(bed, 'other', '10.0.0.3/24', { bridge: 'br1', vlan: 10 })
  await ping(red, '10.0.0.2')
  const { tap: detached } = await bed.api.removeTap({ tap: 'red' })
  assert.deepEqual([detached?.state, detached?.bridge, detached?.vlan], [TapState.DETACHED, '', 10])
  await pingsCease(red, '10.0.0.2')
  const { tap } = await bed.api.addTap({ tap: 'red', bridge: 'br1' })
  assert.deepEqual([tap?.state, tap?.bridge, tap?.vlan], [TapState.ACTIVE, 'br1', 10])
  await ping(red, '10.0.0.3')
})

laneTest('a tap that is moved keeps its device, counters, MAC and outer VLAN', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.ensureBridge({ bridge: 'br1' })
  const netns = bed.createContainer().path
  await bed.api.createTap({ tap: 'tun0', mac: '02:00:00:00:00:01' })
  await bed.api.createContainerTap({ tap: 'cont0', mac: '02:00:00:00:00:02', netns, vethIndex: 0 })
  const machine = bed.use(openTap('tun0'))
  for (let i = 0; i < 5; i++)
    machine.send(Buffer.concat([Buffer.alloc(6, 0xff), Buffer.from('02000000000188b5', 'hex'), Buffer.alloc(50)]))
  for (const tap of ['tun0', 'cont0']) {
    await bed.api.setTapQinQ({ tap, outerVlan: 100 })
    const { tap: before } = await bed.api.getTap({ tap })
    const device = findLink(tap)
    const { tap: moved } = await bed.api.moveTap({ tap, bridge: 'br1', vlan: 7 })
    assert.deepEqual(moved, { ...before, bridge: 'br1', vlan: 7 })
    await bed.api.removeTap({ tap })
    const { tap: back } = await bed.api.addTap({ tap, bridge: 'br0', vlan: 0 })
    assert.deepEqual(back, before)
    assert.equal(findLink(tap)?.index, device?.index)
    const counted = (link = findLink(tap)) => [link?.statistics.rxPackets ?? 0n, link?.statistics.txPackets ?? 0n]
    const [received, sent] = counted()
    const [receivedBefore, sentBefore] = counted(device)
    assert(received !== undefined && received >= (receivedBefore ?? 0n), `${tap} has lost what it had received`)
    assert(sent !== undefined && sent >= (sentBefore ?? 0n), `${tap} has lost what it had sent`)
  }
  assert((findLink('tun0')?.statistics.rxPackets ?? 0n) >= 5n)
  const [port] = await bed.ovs.select('Port', [['name', '==', 'tun0']])
  assert.deepEqual([port?.['vlan_mode'], port?.['tag']], ['dot1q-tunnel', 100])
})

laneTest('detached taps outlive the daemon, and come back or go', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const netns = bed.createContainer().path
  await bed.api.createTap({ tap: 'tun0', vlan: 7, mac: '02:00:00:00:00:01', mtu: 1400, ownerUid: 1000 })
  await bed.api.setTapQinQ({ tap: 'tun0', outerVlan: 100 })
  await bed.api.createContainerTap({ tap: 'cont0', vlan: 8, netns, vethIndex: 3 })
  await bed.api.createHostTap({ tap: 'host0', vlan: 9 })
  await bed.api.createTap({ tap: 'gone0' })
  const names = ['tun0', 'cont0', 'host0', 'gone0']
  const before = new Map(await Promise.all(names.map(async tap => [tap, (await bed.api.getTap({ tap })).tap] as const)))
  const device = findLink('tun0')?.index
  await Promise.all(names.map(tap => bed.api.removeTap({ tap })))
  await bed.service[Symbol.asyncDispose]()
  const { api } = bed.use(await startService(bed))
  for (const tap of names) {
    const { tap: found } = await api.getTap({ tap })
    assert.deepEqual([found?.state, found?.bridge, found?.vlan], [TapState.DETACHED, '', before.get(tap)?.vlan])
  }
  await api.destroyTap({ tap: 'gone0' })
  await assert.rejects(api.getTap({ tap: 'gone0' }), { code: 'NOT_FOUND', reason: 'TAP_NOT_FOUND' })
  assert.equal(findLink('gone0'), undefined)
  for (const tap of ['tun0', 'cont0', 'host0']) {
    assert.deepEqual((await api.addTap({ tap })).tap, before.get(tap))
  }
  assert.equal(findLink('tun0')?.index, device)
  assert.deepEqual([findLink('host0')?.up, findLink('host0')?.promiscuous], [true, true])
})

laneTest('a host tap moves, and its device is up on the other bridge', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.ensureBridge({ bridge: 'br1' })
  const other = await plug(bed, 'other', '10.0.0.1/24', { bridge: 'br1', vlan: 20 })
  await bed.api.createHostTap({ tap: 'host0', vlan: 10 })
  const { tap } = await bed.api.moveTap({ tap: 'host0', bridge: 'br1', vlan: 20 })
  assert.deepEqual([tap?.kind, tap?.bridge, tap?.vlan, tap?.ovsError], [TapKind.HOST, 'br1', 20, ''])
  assert.deepEqual([findLink('host0')?.up, findLink('host0')?.promiscuous], [true, true])
  addAddress('host0', '10.0.0.9/24')
  await ping(other, '10.0.0.9')
})

laneTest('a name is free again as soon as its tap is destroyed, and the new tap passes packets', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const blue = await plug(bed, 'blue', '10.0.0.2/24')
  await plug(bed, 'red', '10.0.0.1/24')
  await ping(blue, '10.0.0.1')
  for (const round of [1, 2]) {
    await bed.api.destroyTap({ tap: 'red' })
    const red = await plug(bed, 'red', `10.0.${round}.1/24`)
    blue.run(() => addAddress('veth0', `10.0.${round}.2/24`))
    await ping(red, `10.0.${round}.2`)
  }
  await bed.api.destroyTap({ tap: 'red' })
  await bed.api.createHostTap({ tap: 'red' })
  addAddress('red', '10.0.7.1/24')
  blue.run(() => addAddress('veth0', '10.0.7.2/24'))
  await ping(bed.namespace, '10.0.7.2')
})

laneTest('a tap whose device was deleted is made anew where it is moved', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'tun0', mtu: 1400 })
  await bed.api.removeTap({ tap: 'tun0' })
  deleteLink(findLink('tun0')?.index ?? 0)
  const { tap } = await bed.api.addTap({ tap: 'tun0', vlan: 5 })
  assert.deepEqual([tap?.vlan, tap?.mtu, tap?.ovsError], [5, 1400, ''])
  assert.equal(findLink('tun0')?.mtuBytes, 1400)
})

laneTest('a tap whose device was deleted passes packets again where it is moved', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'peer', vlan: 7 })
  await bed.api.createTap({ tap: 'tun0', vlan: 5 })
  deleteLink(findLink('tun0')?.index ?? 0)
  const lost = lane === 'kernel' ? /could not/ : /^its device is gone$/
  await until('it is told', async () => lost.test((await bed.api.getTap({ tap: 'tun0' })).tap?.ovsError ?? ''))
  const { tap } = await bed.api.moveTap({ tap: 'tun0', vlan: 7 })
  assert.deepEqual([tap?.vlan, tap?.mtu, tap?.ovsError], [7, 1500, ''])
  const [tun0, peer] = [bed.use(openTap('tun0')), bed.use(openTap('peer'))]
  const frame = Buffer.concat([Buffer.from('ffffffffffff02000000000888b5', 'hex'), Buffer.alloc(50)])
  for (const ends of [
    { from: tun0, to: peer },
    { from: peer, to: tun0 },
  ]) {
    await passes('a frame', ends, frame, ({ etherType }) => etherType === 0x88b5)
  }
})
