import assert from 'node:assert/strict'
import { checkOvs } from '../../src/bridge/check.js'
import type { Host } from '../../src/bridge/host.js'
import { type PortName, parsePortName } from '../../src/bridge/names.js'
import { deviceAlias } from '../../src/bridge/ownership.js'
import { recover } from '../../src/bridge/reconcile.js'
import { repairs } from '../../src/bridge/recovered.js'
import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { type Kernel, type LinkName, parseLinkName } from '../../src/kernel/index.js'
import { newTally } from '../../src/metrics/index.js'
import { keepRecovered } from '../../src/recovery.js'
import { laneTest } from '../support/lane.js'
import { changeLink, createVethPair, deleteLink, findLink } from '../support/links.js'
import { startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

function linkName(text: string): LinkName {
  const parsed = parseLinkName(text)
  assert(parsed.ok)
  return parsed.value
}

function portName(text: string): PortName {
  const parsed = parsePortName(text)
  assert(parsed.ok)
  return parsed.value
}

laneTest(
  'what a stuck ovs-vswitchd keeps from being put right is outstanding, and tried again until it is',
  { only: 'userspace', looksInside: true },
  async ({ signal }) => {
    await using bed = await startServedTestbed(signal)
    // What the daemon does by itself when ovs-vswitchd is back is not to be taken for this.
    const host: Host = { ...bed.service.daemon.host, outstanding: new Map(), recoveries: [] }
    const alias = deviceAlias(host.instance)
    const { path: netns } = bed.createContainer()
    await host.kernel.createVeth({ name: linkName('veth'), alias, netns, peerName: linkName('eth0') }, signal)
    await host.kernel.createTaps([{ name: linkName('tap'), alias, multiQueue: false }], signal)
    bed.ovs.vswitchd.stop()
    await keepRecovered(host, new Set(), newTally({ version: 'test', repairs }), 1_000)
    const warnings = async () => (await checkOvs(host, { signal, caller: 'test' })).warnings
    assert.deepEqual(await warnings(), ['recovery is outstanding, and tried again: orphan_device'])
    assert(findLink('veth') !== undefined)
    bed.ovs.vswitchd.continue()
    await until('nothing is outstanding', async () => (await warnings()).length === 0)
    assert.deepEqual([findLink('veth'), findLink('tap')], [undefined, undefined])
    assert.deepEqual(
      host.recoveries.map(({ occasion, failed }) => [occasion, failed]),
      [
        ['retry', []],
        ['start', ['orphan_device']],
      ],
    )
  },
)

laneTest(
  'one tap that cannot be put right keeps no other from it, and a device that a call is making stays',
  { only: 'userspace', looksInside: true },
  async ({ signal }) => {
    await using bed = await startServedTestbed(signal)
    const { kernel, ...host } = bed.service.daemon.host
    for (const tap of ['one', 'two', 'three']) await bed.api.createHostTap({ tap })
    for (const name of ['one', 'two', 'three']) changeLink({ name, up: false })
    const refusing: Kernel = {
      ...kernel,
      setLink: async (name, change, until) => {
        if (name === 'one') throw new Error('refused')
        return await kernel.setLink(name, change, until)
      },
    }
    const recoverOn = (on: Host) =>
      recover(on, 'vswitchd_restart', repairs, { capturePorts: new Set(), marked: [] }, 10_000)
    const [bad, making] = [await recoverOn({ ...host, kernel: refusing }), portName('making')]
    assert.deepEqual([bad.failed, bad.repaired], [['host_tap'], new Map([['host_tap', ['two', 'three']]])])
    assert.deepEqual(host.outstanding, new Map([['host_tap', ['one']]]))

    await kernel.createTaps(
      [{ name: linkName('making'), alias: deviceAlias(host.instance), multiQueue: false }],
      signal,
    )
    host.inTheMaking.add(making)
    const good = await recoverOn({ ...host, kernel })
    assert.deepEqual([good.failed, good.repaired], [[], new Map([['host_tap', ['one']]])])
    assert(findLink('making') !== undefined)
    host.inTheMaking.delete(making)
    assert.deepEqual((await recoverOn({ ...host, kernel })).repaired, new Map([['orphan_device', ['making']]]))
  },
)

laneTest(
  'no device is made anew for a tap that was destroyed while its turn was awaited',
  { only: 'userspace', looksInside: true },
  async ({ signal }) => {
    await using bed = await startServedTestbed(signal)
    const { api, ovs } = bed
    const { host } = bed.service.daemon
    await api.createTap({ tap: 'away' })
    ovs.vswitchd.stop()
    const detached = api.removeTap({ tap: 'away' })
    await until('it is detached', () => host.records.get('away')?.record.bridge === undefined)
    deleteLink(findLink('away')?.index ?? 0)
    const recovered = recover(host, 'ovsdb_back', ['tap_device'], { capturePorts: new Set(), marked: [] }, 10_000)
    // What it has asked the kernel is answered before this: it waits for ovs-vswitchd by then.
    await host.kernel.getLink('away', signal)
    await api.destroyTap({ tap: 'away' })
    await api.reapTaps()
    ovs.vswitchd.continue()
    await detached
    const { repaired, failed } = await recovered
    assert.deepEqual([repaired, failed, findLink('away')], [new Map(), [], undefined])
  },
)

laneTest(
  'half-open ports of every kind are opened anew, and while they stay so they are outstanding, and no others',
  { only: 'userspace', looksInside: true },
  async ({ signal, mock }) => {
    await using bed = await startServedTestbed(signal)
    const { api, ovs } = bed
    const host: Host = { ...bed.service.daemon.host, outstanding: new Map(), recoveries: [] }
    createVethPair({ name: 'up0' }, { name: 'wire' }, bed.createContainer())
    for (const tap of ['sound', 'half', 'b1', 'b2']) await api.createTap({ tap })
    await api.addBond({ bond: 'bond0', members: ['b1', 'b2'], mode: BondMode.ACTIVE_BACKUP })
    await api.addTrunk({ interface: 'up0' })
    await api.createHostTap({ tap: 'host0' })
    // An ovs-vswitchd that goes over its ports writes what they are: it has heard of all devices by then.
    await ovs.configure()
    const names = ['half', 'b1', 'b2', 'up0', 'host0']
    await ovs.transact(
      ...names.map(name => ({ op: 'update', table: 'Interface', where: [['name', '==', name]], row: { ofport: -1 } })),
    )
    const ofports = () => new Set(names.map(name => host.ovsdb.replica.find('Interface', 'name', name)?.ofport))
    await host.ovsdb.waitFor(() => (ofports().size === 1 && ofports().has(-1)) || undefined, signal)
    const recoverHalfOpen = () =>
      recover(host, 'retry', ['half_open_port'], { capturePorts: new Set(), marked: [] }, 10_000)
    // An ovs-vswitchd that fails again cannot be had, so its looking is left out.
    const unheard = mock.method(host.committer, 'commitApplied', async () => undefined)
    const bad = await recoverHalfOpen()
    const left = [...host.outstanding.values()].map(some => some.toSorted())
    assert.deepEqual([bad.repaired, left], [new Map(), [names.toSorted()]])
    unheard.mock.restore()
    const good = await recoverHalfOpen()
    const reopened = good.repaired.get('half_open_port')?.toSorted()
    assert.deepEqual([reopened, host.outstanding], [names.toSorted(), new Map()])
  },
)
