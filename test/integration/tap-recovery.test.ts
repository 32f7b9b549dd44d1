import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { TapState } from '../../src/gen/ovs/bridge/v1/tap.js'
import { removePort, removeRecord } from '../support/foreign-port.js'
import { laneTest } from '../support/lane.js'
import { changeLink, createVethPair, findLink } from '../support/links.js'
import { hasIngressQdisc, setInRecord } from '../support/qos.js'
import { startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

laneTest('a start finishes what the last run had begun, and touches nothing else', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const container = bed.createContainer()
  for (const name of ['theirs', 'lent']) createVethPair({ name }, { name }, container)
  await bed.api.createTap({ tap: 'kept', vlan: 7 })
  await bed.api.createTap({ tap: 'halfmade' })
  await bed.api.createTap({ tap: 'halfgone' })
  await bed.api.destroyTap({ tap: 'halfgone' })
  await bed.api.addTap({ tap: 'lent' })
  const kept = findLink('kept')?.index
  await bed.service[Symbol.asyncDispose]()
  // As if the daemon had been killed between the device and its row.
  const [port] = await bed.ovs.select('Port', [['name', '==', 'halfmade']])
  await bed.ovs.configure(removePort(port), ...removeRecord(port))
  assert.notEqual(findLink('halfmade'), undefined)
  // As if it had been killed after the mark on an adopted device, on which ovs-vswitchd leaves the policer.
  await setInRecord(bed, 'lent', 'policed-kbps', '5000')
  await setInRecord(bed, 'lent', 'state', 'defunct')
  for (const name of ['theirs', 'lent']) execFileSync('tc', ['qdisc', 'add', 'dev', name, 'ingress'])
  const service = bed.use(await startService(bed))
  // A start serves when what takes its time goes on.
  await until('all is as it should be', async () => {
    assert.equal(findLink('halfmade'), undefined)
    assert.deepEqual([hasIngressQdisc('theirs'), hasIngressQdisc('lent')], [true, false])
    assert.deepEqual(await bed.ovs.select('Port', [['name', '==', 'halfgone']]), [])
    const { taps } = await service.api.listTaps({ includeDefunct: true })
    assert.deepEqual(
      taps.map(tap => [tap.name, tap.vlan, tap.ovsError]),
      [['kept', 7, '']],
    )
    return true
  })
  assert.equal(findLink('kept')?.index, kept)
})

laneTest('ports that calls have left half open are opened anew at the next start', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  createVethPair({ name: 'up0' }, { name: 'wire' }, bed.createContainer())
  const taps = ['one', 'b1', 'b2']
  for (const tap of taps) await bed.api.createTap({ tap })
  await bed.api.addBond({ bond: 'bond0', members: ['b1', 'b2'], mode: BondMode.ACTIVE_BACKUP })
  await bed.api.addTrunk({ interface: 'up0' })
  await bed.api.createHostTap({ tap: 'host0' })
  await bed.service[Symbol.asyncDispose]()
  const names = [...taps, 'up0', 'host0']
  // As ovs-vswitchd tells of it. That it has the ports all the same does not show there.
  await bed.ovs.transact(
    ...names.map(name => ({ op: 'update', table: 'Interface', where: [['name', '==', name]], row: { ofport: -1 } })),
  )
  bed.use(await startService(bed))
  // A start serves when what takes its time goes on.
  await until('all are open', async () => {
    const rows = (await bed.ovs.select('Interface')).filter(row => names.includes(String(row['name'])))
    assert.deepEqual(
      rows.map(row => Number(row['ofport']) > 0),
      names.map(() => true),
    )
    // ovs-vswitchd has made its device anew.
    const { up, promiscuous } = findLink('host0') ?? {}
    assert.deepEqual([up, promiscuous], [true, true])
    return true
  })
})

laneTest('the ports of destroyed taps go by themselves', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  for (const tap of ['one', 'two']) await bed.api.createTap({ tap })
  for (const tap of ['one', 'two']) {
    const destroyed = await bed.api.destroyTap({ tap })
    assert.equal(destroyed.tap?.state, TapState.DEFUNCT)
  }
  await until('nothing is left of them', async () => (await bed.ovs.select('Port')).length === 1)
  assert.deepEqual(await bed.ovs.select('QoS'), [])
  assert.deepEqual((await bed.api.listTaps({ includeDefunct: true })).taps, [])
})

laneTest('the device of a host tap is up again when ovs-vswitchd was started anew', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createHostTap({ tap: 'host0' })
  changeLink({ name: 'host0', up: false, promiscuous: false })
  await bed.ovs.vswitchd.restart()
  await until('it is up and promiscuous', () => {
    const link = findLink('host0')
    return link?.up === true && link.promiscuous
  })
})

laneTest(
  'a host tap works whose device Open vSwitch makes anew after it was first looked at',
  { looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { kernel } = bed.service.daemon.host
    const getLink = kernel.getLink.bind(kernel)
    const former: string[] = []
    // Which device was there before the first look cannot be timed from outside, so the kernel's answer is made up.
    kernel.getLink = async (name, signal) => {
      const link = await getLink(name, signal)
      if (link === undefined || former.includes(name)) return link
      former.push(name)
      return { ...link, index: link.index + 1_000 }
    }
    const { tap } = await bed.api.createHostTap({ tap: 'host0' })
    assert.deepEqual([tap?.ovsError, former], ['', ['host0']])
  },
)

laneTest(
  'a tap is up that is made while ovs-vswitchd still has the port of a former one of its name',
  { only: 'userspace', looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api, ovs } = bed
    await api.createTap({ tap: 'again' })
    await api.destroyTap({ tap: 'again' })
    // By then it knows the device's last flags: it went down.
    await ovs.configure()
    ovs.vswitchd.stop()
    const reaped = api.reapTaps()
    await until('the port is gone', async () => (await ovs.select('Port', [['name', '==', 'again']])).length === 0)
    const made = api.createTap({ tap: 'again' })
    await until('it is on its way', () => bed.service.daemon.host.inTheMaking.size === 1)
    ovs.vswitchd.continue()
    await Promise.all([reaped, made])
    assert.equal(findLink('again')?.up, true)
    await ovs.configure()
    assert.equal(findLink('again')?.up, true)
  },
)

laneTest(
  'devices of host taps go whose ports went while ovs-vswitchd was being killed',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api, ovs } = bed
    for (const tap of ['detached', 'destroyed']) await api.createHostTap({ tap })
    ovs.vswitchd.stop()
    const calls = Promise.all([api.removeTap({ tap: 'detached' }), api.destroyTap({ tap: 'destroyed' })])
    await until('the ports are gone', async () => (await ovs.select('Port')).length === 1)
    await ovs.vswitchd.restart()
    await calls
    await until('the devices are gone', () => !findLink('detached') && !findLink('destroyed'))
    await api.addTap({ tap: 'detached' })
    assert.equal(findLink('detached')?.up, true)
  },
)

laneTest(
  'devices of taps go that a database which came back knows nothing of',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api, ovs } = bed
    const { path: netns } = bed.createContainer()
    await api.createTap({ tap: 'one' })
    await api.createContainerTap({ tap: 'ct', netns, vethIndex: 1 })
    await api.createTap({ tap: 'kept' })
    const ports = await ovs.select('Port')
    const [one, ct] = ['one', 'ct'].map(name => ports.find(port => port['name'] === name))
    await ovs.configure(...[one, ct].flatMap(port => [removePort(port), ...removeRecord(port)]))
    await ovs.ovsdbServer.restart()
    await until('the devices are gone', () => !findLink('one') && !findLink('ct'))
    await api.createContainerTap({ tap: 'ct', netns, vethIndex: 1 })
    assert.notEqual(findLink('kept'), undefined)
  },
)
