import assert from 'node:assert/strict'
import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { DriftKind } from '../../src/gen/ovs/bridge/v1/drift.js'
import { TapState } from '../../src/gen/ovs/bridge/v1/tap.js'
import { TunnelType } from '../../src/gen/ovs/bridge/v1/uplink.js'
import { removePort } from '../support/foreign-port.js'
import { lane, laneTest } from '../support/lane.js'
import { changeLink, createVethPair, deleteLink, findLink, listLinks } from '../support/links.js'
import { createNamespace, createNamespaceAgain } from '../support/namespace.js'
import { deleteRootQdisc, rootQdisc } from '../support/qos.js'
import { type Api, blankTap } from '../support/rpc.js'
import { type Service, startServedTestbed, startService } from '../support/service.js'
import type { Testbed } from '../support/testbed.js'
import { until } from '../support/until.js'

/**
 * A machine goes down, and comes up with a daemon: no device of a tap is there, and the database is as it was. Whether
 * ovs-vswitchd is there before the daemon is left to chance on a real one.
 */
async function reboot(bed: Testbed, running: Service, first: 'switch' | 'daemon'): Promise<Service> {
  await running[Symbol.asyncDispose]()
  await bed.ovs.vswitchd.kill()
  // Those of the kernel's datapath go with it alone.
  for (const { kind, index } of listLinks()) if (kind === 'tun' || kind === 'veth') deleteLink(index)
  // The machine's own set-up.
  createVethPair({ name: 'up0' }, { name: 'up0' }, bed.createContainer())
  if (first === 'switch') await bed.ovs.vswitchd.restart()
  const service = bed.use(await startService(bed))
  if (first === 'daemon') await bed.ovs.vswitchd.restart()
  return service
}

/** `port KIND: intended, actual` of each. */
async function drifts(api: Api): Promise<readonly string[]> {
  const report = await api.reportDrift({ bridge: 'br0' })
  return report.drifts.map(({ port, kind, intended, actual }) => `${port} ${DriftKind[kind]}: ${intended}, ${actual}`)
}

async function kindsOfDrift(api: Api): Promise<readonly string[]> {
  const { drifts } = await api.reportDrift()
  // The tunnel of a test goes nowhere, on the userspace datapath to its knowledge.
  return drifts.flatMap(({ port, kind }) => (kind === DriftKind.NO_ROUTE ? [] : [`${port} ${DriftKind[kind]}`]))
}

laneTest(
  'after a start of the machine taps are made anew, and one that cannot be hinders nobody',
  {},
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const [kept, lost] = [bed.createContainer(), createNamespace('lost')]
    createVethPair({ name: 'up0' }, { name: 'up0' }, kept)
    await bed.api.createTaps({ taps: ['one', 'two', 'three', 'away'].map(tap => ({ ...blankTap, tap, vlan: 7 })) })
    await bed.api.updateQos({ tap: 'one', qos: { rate: '10mbit' } })
    await bed.api.updateQos({ tap: 'away', qos: { rate: '10mbit' } })
    await bed.api.removeTap({ tap: 'away' })
    await bed.api.createHostTap({ tap: 'host0' })
    await bed.api.createContainerTap({ tap: 'here', netns: kept.path, vethIndex: 1 })
    await bed.api.createContainerTap({ tap: 'gone', netns: lost.path, vethIndex: 1 })
    await bed.api.addBond({ bond: 'bond0', bridge: 'br0', members: ['two', 'three'], mode: BondMode.ACTIVE_BACKUP })
    await bed.api.createMirror({ bridge: 'br0', source: 'one', destination: 'host0' })
    await bed.api.addTrunk({ bridge: 'br0', interface: 'up0', vlans: [1, 2] })
    await bed.api.addTunnel({ bridge: 'br0', type: TunnelType.VXLAN, remoteIp: '10.9.0.2', key: '1' })
    const bridge = await bed.api.getBridge({ bridge: 'br0' })
    const { alias } = findLink('br0') ?? {}
    let { service } = bed
    // A start without ovs-vswitchd takes its time, and the user-mode kernel has little of it.
    for (const first of lane === 'userspace' ? (['switch', 'daemon'] as const) : (['switch'] as const)) {
      lost[Symbol.dispose]()
      service = await reboot(bed, service, first)
      const { api } = service
      await until('all but one are there again', async () => {
        const { taps } = await api.listTaps()
        assert.deepEqual(
          taps.filter(tap => tap.ovsError !== '').map(tap => tap.name),
          ['gone'],
        )
        assert.deepEqual(await kindsOfDrift(api), ['gone INTERFACE_ERROR', 'gone MISSING_DEVICE'])
        assert.equal(findLink('br0')?.alias, alias)
        return true
      })
      for (const name of ['one', 'two', 'three', 'away', 'here', 'host0']) assert(findLink(name)?.up, name)
      assert.deepEqual([rootQdisc('one')?.ours, rootQdisc('away')?.ours], [true, true])
      assert.equal(kept.run(() => findLink('veth1'))?.up, true)
      assert.equal((await api.getTap({ tap: 'away' })).tap?.state, TapState.DETACHED)
      assert.deepEqual(await api.getBridge({ bridge: 'br0' }), bridge)
      const { recoveries } = await api.checkOvs()
      const made = recoveries.flatMap(({ repairs }) => repairs).filter(({ what }) => what === 'tap_device')
      assert.deepEqual(made.flatMap(({ names }) => names).sort(), ['away', 'here', 'one', 'three', 'two'])
    }
    const { api } = service
    const outstanding = async () => (await api.checkOvs()).warnings.filter(warning => warning.includes('outstanding'))
    assert.deepEqual(await outstanding(), ['recovery is outstanding, and tried again: tap_device of gone'])
    const again = bed.use(createNamespaceAgain(lost))
    await until('its namespace is back, and it too', async () => (await kindsOfDrift(api)).length === 0)
    assert.equal(again.run(() => findLink('veth1'))?.up, true)
    await until('nothing is outstanding', async () => (await outstanding()).length === 0)
  },
)

laneTest(
  'what others have changed is told, and put right when ovs-vswitchd comes back',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api, ovs } = bed
    const taps = ['tagged', 'portless', 'deviceless', 'down', 'fine', 'one', 'two']
    await api.createTaps({ taps: taps.map(tap => ({ ...blankTap, tap, vlan: 7 })) })
    await api.addBond({ bond: 'bond0', bridge: 'br0', members: ['one', 'two'], mode: BondMode.ACTIVE_BACKUP, vlan: 7 })
    assert.deepEqual(await kindsOfDrift(api), [])
    const [portless] = await ovs.select('Port', [['name', '==', 'portless']])
    await ovs.configure(
      { op: 'update', table: 'Port', where: [['name', '==', 'tagged']], row: { tag: 8 } },
      { op: 'update', table: 'Port', where: [['name', '==', 'bond0']], row: { tag: 9 } },
      removePort(portless),
    )
    deleteLink(findLink('deviceless')?.index ?? 0)
    changeLink({ name: 'down', up: false })
    await until('it is told', async () => {
      // It may have an error by then, or not yet.
      const told = (await drifts(api)).filter(line => !line.startsWith('deviceless INTERFACE_ERROR'))
      assert.deepEqual(told, [
        'bond0 WRONG_TAG: tag 7, tag 9',
        'deviceless MISSING_DEVICE: , ',
        'down DEVICE_DOWN: , ',
        'portless MISSING_PORT: on br0, ',
        'tagged WRONG_TAG: tag 7, tag 8',
      ])
      return true
    })
    const { alias, index = 0 } = findLink('br0') ?? {}
    await ovs.vswitchd.kill()
    deleteLink(index)
    await ovs.vswitchd.restart()
    await until('all is as it should be', async () => {
      assert.deepEqual(await kindsOfDrift(api), [])
      assert.deepEqual([findLink('down')?.up, findLink('br0')?.alias], [true, alias])
      return true
    })
  },
)

laneTest(
  'a dead device under a port, a qdisc of somebody else and a tunnel without a route are told',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api, ovs } = bed
    await api.createTap({ tap: 'dead' })
    await api.createTap({ tap: 'shaped', qos: { rate: '10mbit' } })
    const { tunnel } = await api.addTunnel({ bridge: 'br0', type: TunnelType.VXLAN, remoteIp: '10.9.0.2', key: '1' })
    const noRoute = `${tunnel?.interface} NO_ROUTE: , there is no route to 10.9.0.2`
    assert.deepEqual(await drifts(api), [noRoute])
    await until('the qdisc is missed', async () => {
      // It is put back at once, and then not for a second.
      if (rootQdisc('shaped')?.ours === true) deleteRootQdisc('shaped')
      const told = (await drifts(api)).find(line => line.startsWith('shaped '))
      return told !== undefined && /^shaped WRONG_QDISC: rate 10mbit, \w*$/.test(told)
    })
    await until('the qdisc is there again', async () => (await kindsOfDrift(api)).length === 0)
    const before = findLink('dead')?.index ?? 0
    ovs.vswitchd.stop()
    deleteLink(before)
    createVethPair({ name: 'dead' }, { name: 'eth0' }, bed.createContainer())
    assert.deepEqual(await drifts(api), [`dead DEAD_IFINDEX: ${findLink('dead')?.index}, ${before}`, noRoute])
    ovs.vswitchd.continue()
  },
)
