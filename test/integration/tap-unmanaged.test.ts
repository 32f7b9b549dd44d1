import assert from 'node:assert/strict'
import { openKernel, parseLinkName } from '../../src/kernel/index.js'
import { removeRecord } from '../support/foreign-port.js'
import { laneTest } from '../support/lane.js'
import { createVethPair, findLink } from '../support/links.js'
import { addForeignBridge } from '../support/ovs.js'
import { stateOf } from '../support/refusal.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'

/** A persistent tuntap device that somebody has left. */
async function leaveTuntap(name: string): Promise<void> {
  const parsed = parseLinkName(name)
  assert(parsed.ok)
  await using kernel = await openKernel()
  await kernel.createTaps([{ name: parsed.value, alias: '', multiQueue: false }], AbortSignal.timeout(10_000))
}

async function hasPort(bed: ServedTestbed, name: string): Promise<boolean> {
  return (await bed.ovs.select('Port', [['name', '==', name]])).length > 0
}

laneTest('what somebody has left goes, with its port or without one', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const names = ['tun0', 'tun1', 'veth0', 'veth1', 'inner']
  for (const name of ['tun0', 'tun1']) await leaveTuntap(name)
  for (const name of ['veth0', 'veth1']) createVethPair({ name }, { name: 'eth0' }, bed.createContainer())
  await addForeignBridge(bed.ovs, 'foreign', [
    { name: 'tun1' },
    { name: 'veth1' },
    { name: 'inner', type: 'internal' },
    { name: 'missing' },
  ])
  for (const tap of [...names, 'missing']) {
    await bed.api.destroyUnmanagedTap({ tap })
    assert.equal(findLink(tap), undefined, `the device ${tap} is still there`)
    assert(!(await hasPort(bed, tap)), `the port ${tap} is still there`)
    const again = bed.api.destroyUnmanagedTap({ tap })
    await assert.rejects(again, { code: 'NOT_FOUND', reason: 'DEVICE_NOT_FOUND' })
  }
  assert(await hasPort(bed, 'foreign'))
  createVethPair({ name: 'lent' }, { name: 'eth0' }, bed.createContainer())
  await bed.api.addTap({ tap: 'lent' })
  await bed.api.destroyTap({ tap: 'lent' })
  await bed.api.destroyUnmanagedTap({ tap: 'lent' })
  assert.equal(findLink('lent'), undefined, 'a device that was given back is still there')
})

laneTest(
  "a tap stays whose name an internal port of somebody's bridge could not have",
  { only: 'kernel' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await leaveTuntap('machine')
    await addForeignBridge(bed.ovs, 'foreign', [{ name: 'machine', type: 'internal' }])
    await bed.api.destroyUnmanagedBridge({ bridge: 'foreign' })
    assert(!(await hasPort(bed, 'machine')))
    assert.notEqual(findLink('machine'), undefined)
  },
)

laneTest('a tap whose record somebody has deleted can be cleaned up', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'tap0' })
  const [port] = await bed.ovs.select('Port', [['name', '==', 'tap0']])
  await bed.ovs.transact(...removeRecord(port))
  await assert.rejects(bed.api.destroyTap({ tap: 'tap0' }), { code: 'NOT_FOUND', reason: 'TAP_NOT_FOUND' })
  await bed.api.destroyUnmanagedTap({ tap: 'tap0' })
  assert.equal(findLink('tap0'), undefined)
  assert(!(await hasPort(bed, 'tap0')))
  await bed.api.createTap({ tap: 'tap0' })
})

laneTest('what is managed, a bridge, or more than a tap is not destroyed as unmanaged', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'foreign', [])
  await bed.api.createTap({ tap: 'ours' })
  await bed.api.createHostTap({ tap: 'host0' })
  await bed.api.createTap({ tap: 'detached' })
  await bed.api.removeTap({ tap: 'detached' })
  const before = await stateOf(bed)
  for (const tap of ['ours', 'host0', 'detached', 'br0', 'foreign']) {
    const refused = bed.api.destroyUnmanagedTap({ tap })
    await assert.rejects(refused, { code: 'FAILED_PRECONDITION', reason: 'NOT_OWNED' }, `${tap} was destroyed`)
  }
  await assert.rejects(bed.api.destroyUnmanagedTap({ tap: 'lo' }), { code: 'INVALID_ARGUMENT' })
  assert.deepEqual(await stateOf(bed), before)
})
