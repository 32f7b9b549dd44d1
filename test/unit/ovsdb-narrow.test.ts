import assert from 'node:assert/strict'
import { test } from 'node:test'
import { schema, type Tables } from '../../src/gen/vswitch.js'
import { newTransaction } from '../../src/ovsdb/index.js'
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
  serving,
} from '../support/fake-session.js'
import { problemKind } from '../support/ovsdb-problem.js'
import { soon, until } from '../support/until.js'

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
  await assert.rejects(client.narrow('Bridge', [['name', '==', 'br0']], { signal: soon() }), problemKind('rejected'))
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

test('conditions that the server refuses are not asked of it again', async () => {
  const asked: unknown[] = []
  await using server = await startFakeOvsdbServer(request => {
    const { method, params } = request
    if (method === 'get_schema') request.answer(liveSchema)
    else if (method === 'monitor_cond_since' && params[1] === 'replica') {
      asked.push(whereOf(params))
      request.answer([false, noTransaction, bridges([br0, 'br0'])])
    } else if (method === 'monitor_cond_change') request.refuse({ error: 'syntax error', details: 'no such column' })
    else request.refuse('unknown method')
  })
  await using client = openFake(server)
  await client.ready(soon())
  await assert.rejects(client.narrow('Bridge', [['name', '==', 'x']], { signal: soon() }), problemKind('rejected'))
  server.disconnect()
  await client.waitFor(() => (client.readings.loads === 2 ? true : undefined), soon())
  assert.deepEqual(asked, [undefined, [true]])
})

test('who gives up before there is a connection has changed nothing', async () => {
  const asked: unknown[] = []
  const answer = serving(bridges([br0, 'br0']))
  await using server = await startFakeOvsdbServer(request => {
    if (request.method === 'monitor_cond_since') asked.push(whereOf(request.params))
    answer(request)
  })
  await using client = openFake(server)
  const signal = AbortSignal.abort(new Error('enough'))
  await assert.rejects(client.narrow('Bridge', [['name', '==', 'x']], { signal }), { message: 'enough' })
  await client.ready(soon())
  assert.deepEqual(asked, [[true]])
})

test('once the server has answered who gave up, a history is followed again', async () => {
  const [before, after] = ['1a1b2c3d-0000-4000-8000-00000000000a', '1a1b2c3d-0000-4000-8000-00000000000b']
  const giveUp = new AbortController()
  const known: unknown[] = []
  await using server = await startFakeOvsdbServer(request => {
    const { method, params, socket } = request
    if (method === 'get_schema') request.answer(liveSchema)
    else if (method === 'monitor_cond_since' && params[1] === 'replica') {
      known.push(params[3])
      request.answer([known.length > 1, before, known.length > 1 ? {} : bridges([br0, 'br0'])])
    } else if (method === 'monitor_cond_change') {
      giveUp.abort(new Error('enough'))
      request.answer({})
    } else if (method === 'transact') {
      request.answer([{}])
      const update = { Bridge: { [br1]: { insert: { name: 'br1' } } } }
      socket.write(JSON.stringify({ method: 'update3', params: ['replica', after, update], id: null }))
    } else request.refuse('unknown method')
  })
  await using client = openFake(server)
  await client.ready(soon())
  await assert.rejects(client.narrow('Bridge', [['name', '!=', 'x']], giveUp), { message: 'enough' })
  await until('the answer has come all the same', () => client.readings.pendingCalls === 0)
  const next = newTransaction<Tables>(schema)
  next.comment('x')
  await client.transact(next, { signal: soon() })
  await client.waitFor(replica => replica.find('Bridge', 'name', 'br1'), soon())
  server.disconnect()
  await client.waitFor(() => (client.readings.loads === 2 ? true : undefined), soon())
  assert.deepEqual(known, [noTransaction, after])
})
