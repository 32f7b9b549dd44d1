import assert from 'node:assert/strict'
import { type Tap, TapState } from '../../src/gen/ovs/bridge/v1/tap.js'
import { type HeldTaps, holdTaps } from '../support/held-taps.js'
import { laneTest } from '../support/lane.js'
import { blankTap } from '../support/rpc.js'
import { startServedTestbed, startService } from '../support/service.js'

/** What a subscriber holds, as ListTaps orders it. */
function listed({ taps }: HeldTaps): Tap[] {
  return [...taps.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

laneTest('a subscriber holds what ListTaps lists, before and after taps come, change and go', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.ensureBridge({ bridge: 'br1' })
  await bed.api.createTaps({ taps: ['one', 'two', 'gone'].map(tap => ({ ...blankTap, tap, vlan: 10 })) })
  using held = await holdTaps(bed.api)
  assert.deepEqual(listed(held), (await bed.api.listTaps()).taps)
  using on20 = await holdTaps(bed.api, { bridge: 'br1', vlan: 20 })
  assert.deepEqual(on20.told, ['synced'])

  await bed.api.createHostTap({ tap: 'host0', vlan: 20 })
  await bed.api.moveTap({ tap: 'one', bridge: 'br1', vlan: 20 })
  await bed.api.removeTap({ tap: 'two' })
  await bed.api.destroyTap({ tap: 'gone' })
  await held.until('the last of the changes', ({ taps }) => !taps.has('gone'))
  const { taps } = await bed.api.listTaps()
  await held.until('all of host0', ({ taps: now }) => now.get('host0')?.mtu === taps[0]?.mtu)
  assert.deepEqual(listed(held), taps)
  assert.equal(held.taps.get('two')?.state, TapState.DETACHED)

  await on20.until('one to enter', ({ taps: now }) => now.has('one'))
  await bed.api.moveTap({ tap: 'one', bridge: 'br0' })
  await on20.until('one to leave', ({ taps: now }) => !now.has('one'))
  assert.deepEqual([on20.told.at(1), on20.told.at(-1)], ['+one', '-one'])
})

laneTest('who resumes gets what it has missed; after a restart of the daemon it is reset', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'one' })
  const before = await holdTaps(bed.api)
  before[Symbol.dispose]()
  const { epoch, revision } = before.last
  await bed.api.createTap({ tap: 'two' })
  await bed.api.destroyTap({ tap: 'one' })
  using after = await holdTaps(bed.api, { epoch, revision })
  assert.deepEqual([...after.told].sort(), ['+two', '-one', 'synced'].sort())

  await bed.service[Symbol.asyncDispose]()
  const again = bed.use(await startService(bed))
  using anew = await holdTaps(again.api, { epoch, revision: after.last.revision })
  assert.deepEqual(anew.told, ['reset', '+two', 'synced'])
  assert.notEqual(anew.last.epoch, epoch)
  assert.deepEqual(listed(anew), (await again.api.listTaps()).taps)
})

laneTest('a subscriber that never reads holds up nobody, and holds the truth once it reads', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  using reader = await holdTaps(bed.api)
  using idle = await holdTaps(bed.api)
  for (let vlan = 1; vlan <= 40; vlan++) {
    if (vlan === 1)
      await bed.api.createTaps({ taps: Array.from({ length: 50 }, (_, i) => ({ ...blankTap, tap: `t${i}` })) })
    await bed.api.moveTap({ tap: 't7', vlan })
    await reader.until(`VLAN ${vlan}`, ({ taps }) => taps.get('t7')?.vlan === vlan)
  }
  await idle.until('the last VLAN', ({ taps }) => taps.get('t7')?.vlan === 40)
  assert.deepEqual(listed(idle), (await bed.api.listTaps()).taps)
})
