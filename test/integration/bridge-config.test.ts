import assert from 'node:assert/strict'
import { laneTest } from '../support/lane.js'
import { findLink } from '../support/links.js'
import { addForeignBridge, type PrivateOvs } from '../support/ovs.js'
import { refusalOf } from '../support/refusal.js'
import { startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

async function bridgeRow(ovs: PrivateOvs, name: string): Promise<Readonly<Record<string, unknown>>> {
  const [row] = await ovs.select('Bridge', [['name', '==', name]])
  if (row === undefined) throw new Error(`no bridge ${name}`)
  return row
}

laneTest('what is set takes effect, and the bridge shows it as it was given', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const settings = ['stp=yes', 'other_config:hwaddr="02:00:00:00:00:aa"', 'flood_vlans=10, 20-22']
  const { bridge } = await bed.api.setBridgeConfig({ settings })
  const config = { stp_enable: 'yes', 'other_config:hwaddr': '"02:00:00:00:00:aa"', flood_vlans: '10, 20-22' }
  assert.deepEqual(bridge?.config, config)
  assert.deepEqual(await bed.api.getBridge({ bridge: 'br0' }), { bridge })
  assert.equal(findLink('br0')?.mac, '02:00:00:00:00:aa')
  const row = await bridgeRow(bed.ovs, 'br0')
  assert.deepEqual([row['stp_enable'], row['flood_vlans']], [true, ['set', [10, 20, 21, 22]]])
  await bed.api.createTap({ tap: 'one' })
  const speaksOfTap = async () => {
    const [port] = await bed.ovs.select('Port', [['name', '==', 'one']])
    return JSON.stringify(port?.['status']).includes('stp_state')
  }
  await until('the spanning tree speaks of the tap', speaksOfTap, { everyMs: 50 })
})

laneTest('settings follow each other, keys stay beside keys, and a whole map takes their place', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const configAfter = async (...settings: string[]) =>
    (await bed.api.setBridgeConfig({ bridge: 'br0', settings })).bridge?.config
  const otherConfig = async () => (await bridgeRow(bed.ovs, 'br0'))['other_config']
  await configAfter('fail_mode=secure', 'other_config:a=1')
  assert.deepEqual(await configAfter('other_config:b=2', 'other_config:a=3', 'fail_mode=[]'), {
    fail_mode: '[]',
    'other_config:a': '3',
    'other_config:b': '2',
  })
  assert.deepEqual((await bridgeRow(bed.ovs, 'br0'))['fail_mode'], ['set', []])
  assert.deepEqual(await configAfter('other_config={c=4}', 'other_config:d=5'), {
    fail_mode: '[]',
    other_config: '{c=4}',
    'other_config:d': '5',
  })
  assert.deepEqual(await otherConfig(), map({ c: '4', d: '5' }))
  assert.deepEqual(await configAfter('external_ids:owner=me'), {
    fail_mode: '[]',
    other_config: '{c=4}',
    'other_config:d': '5',
    'external_ids:owner': 'me',
  })
})

function map(entries: Readonly<Record<string, string>>): unknown {
  return ['map', Object.entries(entries)]
}

const refusals: Readonly<Record<string, readonly string[]>> = {
  'stp_enable=maybe': ['stp_enable takes true or false; got "maybe"'],
  'ports=[]': ['ports refers to rows, which cannot be named'],
  'mirrors=[]': ['mirrors refers to rows, which cannot be named'],
  'netflow=[]': ['netflow refers to rows, which cannot be named'],
  'controller=[]': ['controller refers to rows, which cannot be named'],
  'flow_tables={}': ['flow_tables refers to rows, which cannot be named'],
  'name=br9': ['name cannot be changed once the bridge is there'],
  'datapath_type=netdev': ['datapath_type is settled when the bridge is created'],
  'datapath_version=1': ['datapath_version is what ovs-vswitchd writes'],
  'datapath_id=1': ['datapath_id is what ovs-vswitchd writes'],
  'status:a=b': ['status is what ovs-vswitchd writes'],
  'external_ids={a=b}': [
    'external_ids is set key by key, as external_ids:key=value: the service keeps marks of its own there',
  ],
  'external_ids:ovs-bridged\\:instance=mine': ['external_ids has marks of the service itself under such keys'],
  'external_ids:"ovs-bridged:instance"=mine': ['external_ids has marks of the service itself under such keys'],
}

laneTest('one setting that cannot be taken leaves all as it was, and is told with its place', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const before = await bed.ovs.dump()
  for (const [setting, [description]] of Object.entries(refusals)) {
    const call = bed.api.setBridgeConfig({ settings: ['stp_enable=true', setting, 'rstp_enable=maybe'] })
    const error = await refusalOf('the settings', call)
    assert.deepEqual([error.code, error.reason], ['INVALID_ARGUMENT', 'INVALID_FIELD'], setting)
    const violations = {
      'settings[1]': description,
      'settings[2]': 'rstp_enable takes true or false; got "maybe"',
    }
    assert.deepEqual(error.violations, violations)
  }
  const tooLong = await refusalOf(
    'settings that are too long',
    bed.api.setBridgeConfig({ settings: [`other_config:a=${'x'.repeat(70_000)}`] }),
  )
  assert.deepEqual(Object.keys(tooLong.violations), ['settings'])
  const none = await refusalOf('no settings', bed.api.setBridgeConfig({ settings: [] }))
  assert.deepEqual(none.violations, { settings: 'is empty' })
  const elsewhere = await refusalOf(
    'another bridge',
    bed.api.setBridgeConfig({ bridge: 'br9', settings: ['stp_enable=true'] }),
  )
  assert.deepEqual([elsewhere.code, elsewhere.reason], ['NOT_FOUND', 'BRIDGE_NOT_FOUND'])
  assert.deepEqual(await bed.ovs.dump(), before)
})

laneTest('a bridge that was there before keeps what was set, and none of our marks', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'theirs', [])
  const { external_ids } = await bridgeRow(bed.ovs, 'theirs')
  await bed.api.ensureBridge({ bridge: 'theirs' })
  await bed.api.setBridgeConfig({ bridge: 'theirs', settings: ['fail_mode=secure', 'other_config:a=1'] })
  assert.deepEqual(await bed.api.destroyBridge({ bridge: 'theirs' }), { leftInPlace: true })
  const after = await bridgeRow(bed.ovs, 'theirs')
  assert.deepEqual([after['fail_mode'], after['other_config']], ['secure', map({ a: '1' })])
  assert.deepEqual(after['external_ids'], external_ids)
})

laneTest('settings and taps that come at the same time all take effect', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const calls = Array.from({ length: 10 }, (_, i) => [
    bed.api.setBridgeConfig({ settings: [`other_config:k${i}=${i}`] }),
    bed.api.createTap({ tap: `t${i}` }),
  ])
  await Promise.all(calls.flat())
  const { bridge } = await bed.api.getBridge({ bridge: 'br0' })
  assert.equal(Object.keys(bridge?.config ?? {}).length, 10)
  assert.equal((await bed.api.listTaps({})).taps.length, 10)
})
