import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OvsdbError } from '../../src/ovsdb/index.js'
import { isArray, isRecord } from '../../src/ovsdb/json.js'
import { startFakeOvsdbServer } from '../support/fake-ovsdb-server.js'
import {
  br0,
  br1,
  bridges,
  type FakeClient,
  liveSchema,
  noTransaction,
  openFake,
  soon,
} from '../support/fake-session.js'

function names(client: FakeClient): string[] {
  return [...client.replica.rows('Bridge')].map(({ name }) => name).sort()
}

/** The `where` of Bridge in a request to monitor; undefined when all rows are asked for. */
function whereOf(params: readonly unknown[]): unknown {
  const requests = isRecord(params[2]) ? params[2]['Bridge'] : undefined
  const first: unknown = isArray(requests) ? requests[0] : undefined
  return isRecord(first) ? first['where'] : undefined
}

test('a server that knows plain monitor alone refuses to narrow, and is followed whole as before', async () => {
  let isOld = true
  const asked: unknown[] = []
  await using server = await startFakeOvsdbServer(request => {
    const { method, params, socket } = request
    if (method === 'get_schema') request.answer(liveSchema)
    else if (method === 'monitor' && isOld) {
      request.answer({ Bridge: { [br0]: { new: { name: 'br0' } } } })
    } else if (method === 'monitor_cond_since' && !isOld && params[1] === 'replica') {
      asked.push(whereOf(params))
      request.answer([false, noTransaction, bridges([br0, 'br0'], [br1, 'br1'])])
    } else request.refuse('unknown method')
    if (method === 'monitor_cond_change') {
      const updates = { Bridge: { [br1]: { new: { name: 'br1' } } } }
      socket.write(JSON.stringify({ method: 'update', params: ['replica', updates], id: null }))
    }
  })
  await using client = openFake(server)
  await client.ready(soon())
  await assert.rejects(
    client.narrow('Bridge', [['name', '==', 'br0']], { signal: soon() }),
    error => error instanceof OvsdbError && error.problem.kind === 'rejected',
  )
  await client.waitFor(replica => replica.find('Bridge', 'name', 'br1'), soon())
  assert.deepEqual(names(client), ['br0', 'br1'])
  // What was refused is not asked of a newer server either.
  isOld = false
  server.disconnect()
  await client.waitFor(() => (client.readings.loads === 2 ? true : undefined), soon())
  assert.deepEqual(names(client), ['br0', 'br1'])
  assert.deepEqual(asked, [[true]])
})

test('who waits for a server that does not answer can give up', async () => {
  const giveUp = new AbortController()
  const dump = [false, noTransaction, bridges([br0, 'br0'])]
  await using server = await startFakeOvsdbServer(request => {
    const { method } = request
    if (method === 'get_schema') request.answer(liveSchema)
    else if (method === 'monitor_cond_since') request.answer(dump)
    else if (method === 'monitor_cond_change') giveUp.abort(new Error('enough'))
    else request.refuse('unknown method')
  })
  await using client = openFake(server)
  await client.ready(soon())
  await assert.rejects(client.narrow('Bridge', [['name', '==', 'br1']], giveUp), { message: 'enough' })
})
