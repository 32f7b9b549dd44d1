import assert from 'node:assert/strict'
import type { Tap } from '../../src/gen/ovs/bridge/v1/tap.js'
import { arp } from '../support/address-frames.js'
import { openTap } from '../support/frame-socket.js'
import { holdAddresses } from '../support/held-addresses.js'
import { holdTaps } from '../support/held-taps.js'
import { laneTest } from '../support/lane.js'
import { type Api, blankTap } from '../support/rpc.js'
import { startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

const source = '02:00:00:00:00:01'

async function tapOf(api: Api, tap: string): Promise<Tap> {
  const { tap: found } = await api.getTap({ tap })
  assert.ok(found)
  return found
}

laneTest(
  'addresses outlive the daemon, and move with their tap, without a reconfiguration of Open vSwitch',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.ensureBridge({ bridge: 'br1' })
    await bed.api.createTap({ tap: 'vm', vlan: 10 })
    await bed.api.createTap({ tap: 'still', vlan: 10 })
    const machine = bed.use(openTap('vm'))
    const other = bed.use(openTap('still'))
    const epoch = async () => (await bed.ovs.select('Open_vSwitch'))[0]?.['next_cfg']
    const before = await epoch()
    const held = bed.use(await holdAddresses(bed.api))
    machine.send(arp({ source, ip: '10.0.0.1' }))
    machine.send(arp({ source, ip: '10.0.0.2', tags: [20] }))
    other.send(arp({ source: '02:00:00:00:00:02', ip: '10.0.0.3' }))
    await held.learned('still 10 10.0.0.3')
    await held.learned('vm 20 10.0.0.2')
    await until('they are written down', async () => {
      const rows = await bed.ovs.select('QoS')
      return rows.filter(row => JSON.stringify(row['external_ids']).includes('10.0.0.')).length === 2
    })
    assert.equal(await epoch(), before)

    await bed.api.moveTap({ tap: 'vm', vlan: 30 })
    await held.learned('vm 30 10.0.0.1')
    await bed.api.removeTap({ tap: 'vm' })
    await held.until('it to be detached', ({ addresses }) => addresses.get('vm 30 10.0.0.1')?.bridge === '')
    machine.send(arp({ source, ip: '10.0.0.8' }))
    const detached = await tapOf(bed.api, 'vm')
    const still = await tapOf(bed.api, 'still')
    assert.deepEqual(
      detached.addresses.map(({ ip, vlan }) => `${vlan} ${ip}`),
      ['20 10.0.0.2', '30 10.0.0.1'],
    )
    await bed.service[Symbol.asyncDispose]()
    const { api } = bed.use(await startService(bed))
    assert.deepEqual([await tapOf(api, 'vm'), await tapOf(api, 'still')], [detached, still])
    const { tap: back } = await api.addTap({ tap: 'vm', bridge: 'br1' })
    assert.deepEqual(back?.addresses, detached.addresses)
  },
)

laneTest(
  'what was learned last is kept when the daemon ends, and a tap of the same name begins anew',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'vm' })
    const held = bed.use(await holdAddresses(bed.api))
    const machine = openTap('vm')
    machine.send(arp({ source, ip: '10.0.0.1' }))
    await held.learned('vm 0 10.0.0.1')
    await bed.service[Symbol.asyncDispose]()
    const { api } = bed.use(await startService(bed))
    assert.equal((await tapOf(api, 'vm')).ip4, '10.0.0.1')
    machine[Symbol.dispose]()
    await api.destroyTap({ tap: 'vm' })
    await api.createTap({ tap: 'vm' })
    assert.deepEqual((await tapOf(api, 'vm')).addresses, [])
  },
)

laneTest(
  'a subscriber holds what ListTaps lists, resumes, and after a restart is reset; filters apply throughout',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api } = bed
    await api.createTaps({ taps: ['one', 'two', 'three'].map((tap, i) => ({ ...blankTap, tap, vlan: 10 * (i + 1) })) })
    const machines = ['one', 'two', 'three'].map(tap => bed.use(openTap(tap)))
    const say = (index: number, ip: string) => machines[index]?.send(arp({ source: `02:00:00:00:00:0${index}`, ip }))
    const taps = bed.use(await holdTaps(api))
    const all = bed.use(await holdAddresses(api))
    const on20 = bed.use(await holdAddresses(api, { bridge: 'br0', vlan: 20 }))
    const named = bed.use(await holdAddresses(api, { taps: ['three'] }))
    // What was learned is told before it is written down.
    bed.ovs.ovsdbServer.stop()
    for (const index of [0, 1, 2]) say(index, `10.0.0.${index + 1}`)
    await all.until('three addresses', ({ addresses }) => addresses.size === 3)
    await taps.until('three addresses', held => [...held.taps.values()].every(({ ip4 }) => ip4 !== ''))
    bed.ovs.ovsdbServer.continue()
    const { taps: listed } = await api.listTaps()
    assert.deepEqual(
      [...taps.taps.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
      listed,
    )
    await on20.learned('two 20 10.0.0.2')
    await named.learned('three 30 10.0.0.3')

    const { epoch, revision } = all.last
    await api.moveTap({ tap: 'three', vlan: 20 })
    await on20.learned('three 20 10.0.0.3')
    await api.destroyTap({ tap: 'two' })
    await on20.until('the tap to go', ({ addresses }) => !addresses.has('two 20 10.0.0.2'))
    assert.deepEqual(on20.told, ['synced', '+two 20 10.0.0.2', '+three 20 10.0.0.3', '-two 20 10.0.0.2'])
    assert.deepEqual(named.told, ['synced', '+three 30 10.0.0.3'])
    const again = bed.use(await holdAddresses(api, { epoch, revision }))
    assert.deepEqual([...again.told].sort(), ['+three 20 10.0.0.3', '-two 20 10.0.0.2', 'synced'])

    await bed.service[Symbol.asyncDispose]()
    const service = bed.use(await startService(bed))
    const anew = bed.use(await holdAddresses(service.api, { epoch, revision: again.last.revision }))
    assert.deepEqual(anew.told, ['reset', '+one 10 10.0.0.1', '+three 20 10.0.0.3', 'synced'])
    assert.notEqual(anew.last.epoch, epoch)
  },
)
