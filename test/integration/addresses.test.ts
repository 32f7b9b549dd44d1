import assert from 'node:assert/strict'
import { arp, ndp } from '../support/address-frames.js'
import { openPacketSocket, openTap } from '../support/frame-socket.js'
import { holdAddresses } from '../support/held-addresses.js'
import { laneTest } from '../support/lane.js'
import { addAddress, findLink } from '../support/links.js'
import { ping } from '../support/ping.js'
import { plug } from '../support/plug.js'
import { startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

laneTest(
  'addresses are learned from what containers, the host and a virtual machine say, each on its own tap',
  {},
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api } = bed
    const held = bed.use(await holdAddresses(api))
    const red = await plug(bed, 'red', '10.0.0.1/24', { vlan: 10 })
    const blue = await plug(bed, 'blue', '10.0.0.2/24', { vlan: 10 })
    await ping(red, '10.0.0.2')
    const first = await held.learned('red 10 10.0.0.1', 'ARP')
    await held.learned('blue 10 10.0.0.2', 'ARP')
    const { tap: shown } = await api.getTap({ tap: 'red' })
    assert.deepEqual([first.bridge, first.address?.mac], ['br0', shown?.mac])
    assert.deepEqual([shown?.ip4, shown?.ip6, shown?.addresses.length], ['10.0.0.1', '', 1])

    red.run(() => addAddress('veth0', 'fd00::1/64'))
    blue.run(() => addAddress('veth0', 'fd00::2/64'))
    await ping(red, 'fd00::2')
    await held.learned('red 10 fd00::1', 'NDP')
    await held.learned('blue 10 fd00::2', 'NDP')

    await api.createHostTap({ tap: 'host0', vlan: 10 })
    addAddress('host0', '10.0.0.9/24')
    addAddress('host0', 'fd00::9/64')
    await ping(bed.namespace, '10.0.0.1')
    await ping(bed.namespace, 'fd00::1')
    const host = await held.learned('host0 10 10.0.0.9', 'ARP')
    assert.equal(host.address?.mac, findLink('host0')?.mac)
    await held.learned('host0 10 fd00::9', 'NDP')

    await api.createTap({ tap: 'vm', mac: '02:00:00:00:00:01' })
    const machine = bed.use(openTap('vm'))
    const source = '02:00:00:00:00:01'
    machine.send(arp({ source, ip: '0.0.0.0', target: '10.0.0.7' }))
    machine.send(ndp({ source, type: 'solicitation', from: 'fe80::1', target: 'fd00::2', mac: source }))
    machine.send(ndp({ source, type: 'advertisement', from: 'fe80::1', target: 'fe80::1', mac: source }))
    machine.send(ndp({ source, type: 'solicitation', from: '::', target: 'fe80::1' }))
    machine.send(ndp({ source, type: 'solicitation', from: '::', target: '::', mac: source }))
    machine.send(ndp({ source, type: 'advertisement', from: 'fe80::1', target: '::', mac: source }))
    machine.send(ndp({ source, type: 'advertisement', from: '::', target: '::', mac: source }))
    const mac = host.address?.mac ?? ''
    machine.send(arp({ source: mac, ip: '10.0.0.3' }))
    const stolen = await held.learned('vm 0 10.0.0.3', 'ARP')
    assert.equal(stolen.address?.mac, mac)

    await bed.ovs.vswitchd.restart()
    machine.send(arp({ source, ip: '10.0.0.4' }))
    await held.learned('vm 0 10.0.0.4', 'ARP')
    // On the userspace datapath the host's device is another one now.
    const says = async () => {
      using socket = openPacketSocket('host0')
      socket.send(arp({ source, ip: '10.0.0.10' }))
      return (await api.getTap({ tap: 'host0' })).tap?.ip4 === '10.0.0.10'
    }
    await until('the host is heard again', says, { deadlineMs: 60_000, everyMs: 100 })
    await held.learned('host0 10 10.0.0.10', 'ARP')
    assert.deepEqual([...held.addresses.keys()].sort(), [
      'blue 10 10.0.0.2',
      'blue 10 fd00::2',
      'host0 10 10.0.0.10',
      'host0 10 10.0.0.9',
      'host0 10 fd00::9',
      'red 10 10.0.0.1',
      'red 10 fd00::1',
      'vm 0 10.0.0.3',
      'vm 0 10.0.0.4',
    ])
  },
)
