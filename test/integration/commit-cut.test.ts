import assert from 'node:assert/strict'
import { openHeldSocket } from '../support/held-socket.js'
import { laneTest } from '../support/lane.js'
import { findLink } from '../support/links.js'
import { startService } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

/** A daemon whose way to the database can be cut. */
async function startCuttable(signal: AbortSignal) {
  const bed = await startTestbed(signal)
  const socket = bed.use(await openHeldSocket(bed.ovs.endpoint.slice('unix:'.length)))
  const service = bed.use(await startService({ ...bed, ovs: { ...bed.ovs, endpoint: `unix:${socket.path}` } }))
  await service.api.ensureBridge()
  const ports = async (name: string) => (await bed.ovs.select('Port', [['name', '==', name]])).length
  return { bed, socket, ports, ...service }
}

const inside = { looksInside: true, only: 'userspace' } as const

laneTest('a call whose answer from the database is lost is told what became of it', inside, async context => {
  const { bed, socket, ports, api } = await startCuttable(context.signal)
  await using _ = bed
  socket.silence()
  const made = api.createTap({ tap: 'tap0', vlan: 7 })
  await until('its port is committed', async () => (await ports('tap0')) === 1)
  socket.cut()
  const { tap } = await made
  assert.deepEqual([tap?.vlan, tap?.ovsError], [7, ''])
  assert.notEqual(findLink('tap0'), undefined)
})

laneTest('a change that was lost on its way to the database is made once it is back', inside, async context => {
  const { bed, socket, ports, api, daemon } = await startCuttable(context.signal)
  await using _ = bed
  const { committer } = daemon.host
  const sends = async () => {
    const sent = committer.transactions
    await until('it is on its way', () => committer.transactions > sent)
  }
  socket.hold()
  const made = api.createTap({ tap: 'tap0' })
  await sends()
  socket.cut()
  assert.equal((await made).tap?.ovsError, '')
  assert.equal(await ports('tap0'), 1)
  // Whose caller leaves before the database is back, it is not made any more.
  socket.hold()
  const left = api.createTap({ tap: 'tap1' }, { timeoutMs: 2_000 })
  await sends()
  await assert.rejects(left, { code: 'DEADLINE_EXCEEDED' })
  socket.cut()
  await until('its device has been taken back', () => findLink('tap1') === undefined)
  assert.equal(await ports('tap1'), 0)
})
