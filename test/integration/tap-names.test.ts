import assert from 'node:assert/strict'
import { laneTest } from '../support/lane.js'
import { createVethPair } from '../support/links.js'
import { addForeignBridge } from '../support/ovs.js'
import { blankTap } from '../support/rpc.js'
import { startServedTestbed, startService } from '../support/service.js'

laneTest('generated names pass over what the host has, and what others have reserved', {}, async context => {
  await using bed = await startServedTestbed(context.signal, '--tap-name-format', 'vm%v_eth')
  createVethPair({ name: 'vm0_eth' }, { name: 'eth0' }, bed.createContainer())
  await addForeignBridge(bed.ovs, 'foreign', [{ name: 'vm2_eth' }])
  const { tap: reserved } = await bed.api.reserveTapName()
  assert.equal(reserved, 'vm1_eth')
  // A port of that name is enough, though it has no device.
  assert.equal((await bed.api.reserveTapName()).tap, 'vm3_eth')
  const { tap: made } = await bed.api.createTap()
  assert.equal(made?.name, 'vm4_eth')
  await bed.api.createTap({ tap: 'vm5_eth' })
  await bed.api.destroyTap({ tap: 'vm4_eth' })
  const { tap: next } = await bed.api.createHostTap()
  assert.equal(next?.name, 'vm6_eth')
  const { tap: asked } = await bed.api.createTap({ tap: reserved })
  assert.equal(asked?.name, 'vm1_eth')
})

laneTest('callers that name nothing all get names of their own', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const [many, ...single] = await Promise.all([
    bed.api.createTaps({ taps: Array.from({ length: 16 }, () => blankTap) }),
    ...Array.from({ length: 32 }, () => bed.api.createTap().then(({ tap }) => tap?.name ?? '')),
    ...Array.from({ length: 32 }, () => bed.api.reserveTapName().then(({ tap }) => tap)),
  ])
  const names = [...many.taps.map(({ name }) => name), ...single]
  assert.deepEqual(
    names.toSorted((a, b) => Number(a.slice(3)) - Number(b.slice(3))),
    Array.from({ length: 80 }, (_, i) => `tap${i}`),
  )
})

laneTest('a format that gives no names is refused at the start', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  for (const format of ['tap', 'tap%v%v', 'a-long-name-%v', 'a b%v', '']) {
    await assert.rejects(startService(bed, '--tap-name-format', format), /tap-name-format/, `${format} was taken`)
  }
})
