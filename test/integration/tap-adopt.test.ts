import assert from 'node:assert/strict'
import { TapKind, TapState } from '../../src/gen/ovs/bridge/v1/tap.js'
import { laneTest } from '../support/lane.js'
import { addAddress, createVethPair, findLink } from '../support/links.js'
import type { Namespace } from '../support/namespace.js'
import { addForeignBridge } from '../support/ovs.js'
import { ping, pingsCease } from '../support/ping.js'
import { plug } from '../support/plug.js'
import { stateOf } from '../support/refusal.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

/** A container on a veth that nobody has told the service of. */
function wire(bed: ServedTestbed, name: string, address: string): Namespace {
  const container = bed.createContainer(name)
  createVethPair({ name }, { name: 'eth0' }, container)
  container.run(() => addAddress('eth0', address))
  return container
}

laneTest("somebody's device becomes a tap, and is left to its owner when the tap is destroyed", {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const theirs = wire(bed, 'theirs', '10.0.0.1/24')
  await plug(bed, 'red', '10.0.0.2/24', { vlan: 10 })
  const before = findLink('theirs')
  const { tap } = await bed.api.addTap({ tap: 'theirs', vlan: 10, mac: '02:00:00:00:00:01' })
  assert.deepEqual([tap?.kind, tap?.state, tap?.vlan], [TapKind.ADOPTED, TapState.ACTIVE, 10])
  assert.equal(tap?.mac, '02:00:00:00:00:01')
  await ping(theirs, '10.0.0.2')
  await bed.api.destroyTap({ tap: 'theirs' })
  await pingsCease(theirs, '10.0.0.2')
  const { index, alias, up } = findLink('theirs') ?? {}
  assert.deepEqual({ index, alias, up }, { index: before?.index, alias: '', up: true })
  await bed.api.reapTaps()
  assert.deepEqual(await bed.ovs.select('Port', [['name', '==', 'theirs']]), [])
  assert.equal((await bed.ovs.select('QoS')).length, 1)
  await bed.api.addTap({ tap: 'theirs', vlan: 10 })
  await ping(theirs, '10.0.0.2')
})

laneTest("a port of somebody's bridge becomes a tap on ours", {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const theirs = wire(bed, 'theirs', '10.0.0.1/24')
  await plug(bed, 'red', '10.0.0.2/24', { vlan: 10 })
  await addForeignBridge(bed.ovs, 'foreign', [{ name: 'theirs', tag: 30 }])
  const { tap } = await bed.api.addTap({ tap: 'theirs', vlan: 10 })
  assert.deepEqual([tap?.bridge, tap?.kind, tap?.vlan, tap?.ovsError], ['br0', TapKind.ADOPTED, 10, ''])
  await ping(theirs, '10.0.0.2')
  await bed.api.moveTap({ tap: 'theirs', vlan: 11 })
  await pingsCease(theirs, '10.0.0.2')
  await bed.api.removeTap({ tap: 'theirs' })
  await bed.api.addTap({ tap: 'theirs', vlan: 10 })
  await ping(theirs, '10.0.0.2')
})

laneTest('a port that could not be taken over is as it was', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  wire(bed, 'theirs', '10.0.0.1/24')
  wire(bed, 'bare', '10.0.0.2/24')
  await addForeignBridge(bed.ovs, 'foreign', [{ name: 'theirs' }])
  const columns = {
    vlan_mode: 'native-tagged',
    tag: 30,
    trunks: ['set', [30, 31]],
    external_ids: ['map', [['their', 'key']]],
    qos: ['named-uuid', 'qos'],
  }
  const mac = ['map', [['attached-mac', '02:00:00:00:00:01']]]
  await bed.ovs.configure(
    { op: 'insert', table: 'QoS', 'uuid-name': 'qos', row: { type: 'linux-noop' } },
    { op: 'update', table: 'Port', where: [['name', '==', 'theirs']], row: columns },
    { op: 'update', table: 'Interface', where: [['name', '==', 'theirs']], row: { external_ids: mac } },
  )
  const before = await stateOf(bed)
  for (const tap of ['theirs', 'bare']) {
    // Who takes over a tap waits until ovs-vswitchd has heard that the one before is given back.
    await bed.ovs.configure()
    bed.ovs.vswitchd.stop()
    const refused = bed.api.addTap({ tap, mac: '02:00:00:00:00:02' }, { timeoutMs: 2_000 })
    await assert.rejects(refused, { code: 'DEADLINE_EXCEEDED' })
    await until('it is given back', async () => (await bed.ovs.select('QoS')).length === 1)
    bed.ovs.vswitchd.continue()
    assert.deepEqual(await stateOf(bed), before, `${tap} is not as it was`)
  }
})

laneTest('what is no tap is not taken over', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'foreign', [])
  await bed.api.createTap({ tap: 'ours' })
  const before = await stateOf(bed)
  await assert.rejects(bed.api.addTap({ tap: 'nothing' }), { code: 'NOT_FOUND', reason: 'DEVICE_NOT_FOUND' })
  await assert.rejects(bed.api.addTap({ tap: 'ours' }), { code: 'ALREADY_EXISTS', reason: 'NAME_TAKEN' })
  await assert.rejects(bed.api.addTap({ tap: 'foreign' }), { code: 'ALREADY_EXISTS', reason: 'NAME_TAKEN' })
  await assert.rejects(bed.api.addTap({ tap: 'nothing', bridge: 'foreign' }), {
    code: 'NOT_FOUND',
    reason: 'BRIDGE_NOT_FOUND',
  })
  assert.deepEqual(await stateOf(bed), before)
})

laneTest("somebody's internal port becomes a tap that can move, and be detached and come back", {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'foreign', [{ name: 'theirs', type: 'internal' }])
  const { tap } = await bed.api.addTap({ tap: 'theirs' })
  assert.deepEqual([tap?.bridge, tap?.ovsError], ['br0', ''])
  await bed.api.ensureBridge({ bridge: 'br1' })
  await bed.api.moveTap({ tap: 'theirs', bridge: 'br1' })
  await bed.api.removeTap({ tap: 'theirs' })
  const { tap: back } = await bed.api.addTap({ tap: 'theirs' })
  assert.deepEqual([back?.bridge, back?.ovsError], ['br0', ''])
})
