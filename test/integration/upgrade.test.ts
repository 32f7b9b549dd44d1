import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { DriftKind } from '../../src/gen/ovs/bridge/v1/drift.js'
import { TapKind, TapState } from '../../src/gen/ovs/bridge/v1/tap.js'
import { ofTap } from '../support/captured.js'
import { spawnDaemon } from '../support/daemon-process.js'
import { laneTest } from '../support/lane.js'
import { createVethPair, findLink } from '../support/links.js'
import { logOf } from '../support/log.js'
import { rootQdisc, setInRecord } from '../support/qos.js'
import { restoreDatabase } from '../support/recorded-database.js'
import { stateOf } from '../support/refusal.js'
import { blankTap } from '../support/rpc.js'
import { startServedTestbed, startService } from '../support/service.js'
import { startTestbed, type Testbed } from '../support/testbed.js'
import { until, within } from '../support/until.js'

/** What a daemon of former times left when it was killed, with a tap's device that is there still. */
async function settleFormer(bed: Testbed): Promise<void> {
  const lab = bed.createContainer()
  for (const name of ['theirs', 'up0']) createVethPair({ name }, { name }, lab)
  for (const name of ['two', 'dead']) {
    execFileSync('ip', ['tuntap', 'add', 'dev', name, 'mode', 'tap'])
    execFileSync('ip', ['link', 'set', name, 'up', 'alias', 'ovs-bridged:default'])
  }
  await restoreDatabase(bed.ovs, 'database-1', { '/run/netns/lab': lab.path, netdev: bed.ovs.datapathType })
}

laneTest('a daemon goes on from the database that an earlier one left', { only: 'userspace' }, async context => {
  await using bed = await startTestbed(context.signal)
  await settleFormer(bed)
  const former = findLink('two')?.index
  const { api } = bed.use(await startService(bed))
  // A start serves when what takes its time goes on.
  await until('all is there', async () => {
    const { drifts } = await api.reportDrift()
    assert.deepEqual(
      drifts.filter(({ kind }) => kind !== DriftKind.NO_ROUTE),
      [],
    )
    return true
  })
  const { taps } = await api.listTaps({ includeDefunct: true })
  assert.deepEqual(
    taps.map(({ name, kind, state, bridge, vlan, ovsError }) => [name, kind, state, bridge, vlan, ovsError]),
    [
      ['away', TapKind.TUNTAP, TapState.DETACHED, '', 6, ''],
      ['ct0', TapKind.CONTAINER, TapState.ACTIVE, 'br0', 0, ''],
      ['host0', TapKind.HOST, TapState.ACTIVE, 'br0', 3, ''],
      ['host1', TapKind.HOST, TapState.ACTIVE, 'there', 4, ''],
      ['one', TapKind.TUNTAP, TapState.ACTIVE, 'br0', 7, ''],
      ['theirs', TapKind.ADOPTED, TapState.ACTIVE, 'br0', 5, ''],
      ['three', TapKind.TUNTAP, TapState.ACTIVE, 'br0', 6, ''],
      ['two', TapKind.TUNTAP, TapState.ACTIVE, 'br0', 6, ''],
    ],
  )
  const one = taps.find(({ name }) => name === 'one')
  assert.deepEqual([one?.mac, one?.mtu, one?.qinqOuterVlan], ['02:00:00:00:00:01', 1400, 100])
  assert.deepEqual([rootQdisc('one')?.ours, rootQdisc('one')?.kind], [true, 'tbf'])
  assert.deepEqual([findLink('two')?.index, findLink('dead')], [former, undefined])
  const { bridge } = await api.getBridge({ bridge: 'br0' })
  assert.deepEqual(bridge?.config, { 'other_config:a': '1' })
  assert.deepEqual([bridge?.trunks, bridge?.tunnels, bridge?.mirrors], [['up0'], ['ovsvxlan0'], ['host0']])
  assert.deepEqual(
    bridge?.bonds.map(({ name, members, mode, vlan }) => [name, members, mode, vlan]),
    [['bond0', ['three', 'two'], BondMode.ACTIVE_BACKUP, 9]],
  )
  const { netflow } = await api.getNetflow({ bridge: 'br0' })
  assert.deepEqual(
    [netflow?.activeTimeout?.seconds, netflow?.writers.map(({ name }) => name)],
    [7n, ['udp:127.0.0.1:9']],
  )
  assert.notEqual(netflow?.collector, '')
  assert.equal((await api.startCapture(ofTap('one'))).capture?.id, 3)
  // It was there before the former one, and stays.
  assert.deepEqual((await api.destroyAllBridges()).leftInPlace, ['there'])
  await api.destroyTap({ tap: 'away' })
  await api.reapTaps()
  const { Bridge: bridges, Port: ports, QoS, Mirror: mirrors } = await bed.ovs.dump()
  assert.equal(bridges?.length, 1)
  assert(!JSON.stringify(bridges).includes('ovs-bridged:'))
  assert.deepEqual([ports?.length, QoS, mirrors], [1, undefined, undefined])
})

laneTest('keys of a record that only a later version knows stay', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api, ovs } = bed
  await api.createTaps({ taps: ['one', 'two', 'three'].map(tap => ({ ...blankTap, tap })) })
  await api.addBond({ bond: 'bond0', bridge: 'br0', members: ['two', 'three'], mode: BondMode.ACTIVE_BACKUP })
  const ofTomorrow = ['ovs-bridged:of-tomorrow', 'yes']
  const mutations = [['external_ids', 'insert', ['map', [ofTomorrow]]]]
  await ovs.configure({ op: 'mutate', table: 'QoS', where: [], mutations })
  await api.moveTap({ tap: 'one', vlan: 7 })
  await api.updateQos({ tap: 'one', qos: { rate: '10mbit' } })
  await api.setTapQinQ({ tap: 'one', outerVlan: 100 })
  await api.removeQos({ tap: 'one' })
  await api.removeTap({ tap: 'one' })
  await api.addTap({ tap: 'one', bridge: 'br0' })
  await api.setTapQinQ({ tap: 'bond0', outerVlan: 100 })
  const rows = await ovs.select('QoS')
  assert.equal(rows.length, 4)
  for (const row of rows) assert(JSON.stringify(row).includes(JSON.stringify(ofTomorrow)), JSON.stringify(row))
})

const refusal =
  /the database has records of format 2 \(the tap two\), which a later ovs-bridged has written; this one reads format 1\b/

laneTest(
  'a database of a later format is not touched, and the daemon says what it found',
  { only: 'userspace' },
  async context => {
    await using bed = await startTestbed(context.signal)
    await settleFormer(bed)
    await setInRecord(bed, 'two', 'format', '2')
    const before = await stateOf(bed)
    await assert.rejects(startService(bed), { message: refusal })
    assert.deepEqual(await stateOf(bed), before)
    // Somebody else's instance is its own affair.
    const other = await startService(bed, '--instance', 'other')
    await other[Symbol.asyncDispose]()
  },
)

laneTest('a daemon ends when its database turns out to be of a later format', { only: 'userspace' }, async context => {
  await using bed = await startTestbed(context.signal)
  await settleFormer(bed)
  const daemon = bed.use(await spawnDaemon(bed.ovs))
  await setInRecord(bed, 'two', 'format', '2')
  const before = await stateOf(bed)
  assert.equal(await within('the daemon ends', 20_000, daemon.ended), 1)
  const end = logOf(daemon.stderr()).find(({ msg }) => msg === 'cannot go on')
  assert.equal(end?.['level'], 'fatal')
  assert.match(String(end['why']), refusal)
  assert.deepEqual(await stateOf(bed), before)
})
