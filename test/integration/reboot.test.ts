import assert from 'node:assert/strict'
import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { DriftKind } from '../../src/gen/ovs/bridge/v1/drift.js'
import { TapState } from '../../src/gen/ovs/bridge/v1/tap.js'
import { laneTest } from '../support/lane.js'
import { deleteLink, findLink, listLinks } from '../support/links.js'
import { createNamespace } from '../support/namespace.js'
import { rootQdisc } from '../support/qos.js'
import type { Api } from '../support/rpc.js'
import { startServedTestbed, startService } from '../support/service.js'
import type { Testbed } from '../support/testbed.js'
import { until } from '../support/until.js'

/** As a machine that starts anew: no device of a tap is there, and the database is as it was. */
async function reboot(bed: Testbed): Promise<void> {
  await bed.ovs.vswitchd.kill()
  // Those of the kernel's datapath go with it alone.
  for (const { kind, index } of listLinks()) if (kind === 'tun' || kind === 'veth') deleteLink(index)
  await bed.ovs.vswitchd.restart()
}

async function kindsOfDrift(api: Api): Promise<readonly string[]> {
  const { drifts } = await api.reportDrift()
  return drifts.map(({ port, kind }) => `${port} ${DriftKind[kind]}`)
}

laneTest(
  'after a start of the machine taps are made anew, and one that cannot be hinders nobody',
  {},
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const [kept, lost] = [bed.createContainer(), createNamespace('lost')]
    await bed.api.createTaps({ taps: ['one', 'two', 'three', 'away'].map(tap => ({ ...plain, tap, vlan: 7 })) })
    await bed.api.updateQos({ tap: 'one', qos: { rate: '10mbit' } })
    await bed.api.removeTap({ tap: 'away' })
    await bed.api.createHostTap({ tap: 'host0' })
    await bed.api.createContainerTap({ tap: 'here', netns: kept.path, vethIndex: 1 })
    await bed.api.createContainerTap({ tap: 'gone', netns: lost.path, vethIndex: 1 })
    await bed.api.addBond({ bond: 'bond0', bridge: 'br0', members: ['two', 'three'], mode: BondMode.ACTIVE_BACKUP })
    await bed.service[Symbol.asyncDispose]()
    lost[Symbol.dispose]()
    await reboot(bed)

    const { api } = bed.use(await startService(bed))
    await until('all but one are there again', async () => {
      const { taps } = await api.listTaps()
      const wrong = taps.filter(tap => tap.ovsError !== '').map(tap => tap.name)
      assert.deepEqual(wrong, ['gone'])
      assert.deepEqual(await kindsOfDrift(api), ['gone INTERFACE_ERROR', 'gone MISSING_DEVICE'])
      return true
    })
    for (const name of ['one', 'two', 'three', 'away', 'here', 'host0']) assert(findLink(name)?.up, name)
    assert.equal(rootQdisc('one')?.ours, true)
    assert.equal(kept.run(() => findLink('veth1'))?.up, true)
    assert.equal((await api.getTap({ tap: 'away' })).tap?.state, TapState.DETACHED)
    const { recoveries } = await api.checkOvs()
    const made = recoveries.flatMap(({ repairs }) => repairs).filter(({ what }) => what === 'tap_device')
    assert.deepEqual(made.flatMap(({ names }) => names).sort(), ['away', 'here', 'one', 'three', 'two'])
  },
)

const plain = { bridge: '', mac: '', mtu: 0, multiQueue: false }

laneTest(
  'what others have changed is told, and put right when ovs-vswitchd comes back',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api, ovs } = bed
    for (const tap of ['tagged', 'portless', 'deviceless', 'fine']) await api.createTap({ tap, vlan: 7 })
    await api.createTap({ tap: 'shaped', qos: { rate: '10mbit' } })
    assert.deepEqual(await kindsOfDrift(api), [])
    const [portless] = await ovs.select('Port', [['name', '==', 'portless']])
    await ovs.configure(
      { op: 'update', table: 'Port', where: [['name', '==', 'tagged']], row: { tag: 8 } },
      { op: 'mutate', table: 'Bridge', where: [], mutations: [['ports', 'delete', portless?.['_uuid']]] },
    )
    deleteLink(findLink('deviceless')?.index ?? 0)
    await until('it is told', async () => {
      const { drifts } = await api.reportDrift({ bridge: 'br0' })
      const told = drifts.map(({ port, kind, intended, actual }) => [port, DriftKind[kind], intended, actual].join(' '))
      assert.deepEqual(
        told.filter(line => !line.includes('INTERFACE_ERROR') && !line.includes('DEAD_IFINDEX')),
        ['deviceless MISSING_DEVICE  ', 'portless MISSING_PORT on br0 ', 'tagged WRONG_TAG tag 7 tag 8'],
      )
      return true
    })
    await ovs.vswitchd.restart()
    await until('all is as it should be', async () => {
      assert.deepEqual(await kindsOfDrift(api), [])
      return true
    })
  },
)
