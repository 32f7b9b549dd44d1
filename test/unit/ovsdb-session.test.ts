import assert from 'node:assert/strict'
import { test } from 'node:test'
import { schema as generated, type Tables } from '../../src/gen/vswitch.js'
import { type Change, newTransaction, OvsdbError, openOvsdb } from '../../src/ovsdb/index.js'
import { startFakeOvsdbServer } from '../support/fake-ovsdb-server.js'
import {
  br0,
  br1,
  bridges,
  type FakeView,
  liveSchema,
  monitor,
  noTransaction,
  openFake as open,
  serving,
} from '../support/fake-session.js'
import { problemKind } from '../support/ovsdb-problem.js'
import { soon, until } from '../support/until.js'

function comment(): ReturnType<typeof newTransaction<Tables>> {
  const tx = newTransaction(generated)
  tx.comment('x')
  return tx
}

test('a transaction whose connection is cut has an unknown outcome', async () => {
  const handle = serving({}, request => request.socket.destroy())
  await using server = await startFakeOvsdbServer(handle)
  await using client = open(server)
  await client.ready(soon())
  await assert.rejects(client.transact(comment(), { signal: soon() }), problemKind('outcome-unknown'))
})

test('a transaction that is given up while under way has an unknown outcome', async () => {
  const giveUp = new AbortController()
  await using server = await startFakeOvsdbServer(serving({}, () => giveUp.abort(new Error('enough'))))
  await using client = open(server)
  await client.ready(soon())
  await assert.rejects(client.transact(comment(), { signal: giveUp.signal }), (error: unknown) => {
    assert.ok(problemKind('outcome-unknown')(error) && error instanceof OvsdbError)
    assert.equal(error.cause, giveUp.signal.reason)
    return true
  })
})

test('a transaction that is given up beforehand is not sent', async () => {
  const seen: string[] = []
  await using server = await startFakeOvsdbServer(serving({}, ({ method }) => seen.push(method)))
  await using client = open(server)
  await client.ready(soon())
  const signal = AbortSignal.abort()
  await assert.rejects(client.transact(comment(), { signal }), problemKind('aborted-before-send'))
  assert.deepEqual(seen, [])
})

for (const [method, dump, update, notification] of [
  [
    'monitor_cond_since',
    [false, noTransaction, bridges([br0, 'br0'])],
    [noTransaction, { Bridge: { [br1]: { insert: { name: 'br1' } } } }],
    'update3',
  ],
  ['monitor_cond', bridges([br0, 'br0']), [{ Bridge: { [br1]: { insert: { name: 'br1' } } } }], 'update2'],
  [
    'monitor',
    { Bridge: { [br0]: { new: { name: 'br0' } } } },
    [{ Bridge: { [br1]: { new: { name: 'br1' } } } }],
    'update',
  ],
] as const) {
  test(`a server that knows ${method} at most is followed by it`, async () => {
    await using server = await startFakeOvsdbServer(request => {
      if (request.method === 'get_schema') request.answer(liveSchema)
      else if (request.method !== method) request.refuse('unknown method')
      else {
        const answer = JSON.stringify({ id: request.id, result: dump, error: null })
        const more = JSON.stringify({ method: notification, params: [request.params[1], ...update], id: null })
        // In one write: the update must not be taken before the dump.
        request.socket.write(answer + more)
      }
    })
    await using client = open(server)
    await client.waitFor(replica => replica.find('Bridge', 'name', 'br1'), soon())
    assert.deepEqual(
      [...client.replica.rows('Bridge')].map(row => row.name),
      ['br0', 'br1'],
    )
  })
}

test('a column that the server lacks is not asked for and reads as its default', async () => {
  const { tables, ...rest } = liveSchema
  const older = { ...rest, tables: { ...tables, Port: { columns: { name: { type: 'string' } } } } }
  let asked: unknown
  await using server = await startFakeOvsdbServer(request => {
    if (request.method === 'set_db_change_aware') return request.refuse('unknown method')
    if (request.method === 'get_schema') return request.answer(older)
    asked = request.params[2]
    request.answer([false, noTransaction, { Port: { [br0]: { initial: { name: 'p' } } } }])
  })
  await using client = open(server)
  await client.ready(soon())
  assert.deepEqual(asked, { Bridge: [{ columns: ['name', 'ports'] }], Port: [{ columns: ['name'] }] })
  assert.equal(client.replica.find('Port', 'name', 'p')?.tag, undefined)
})

test('a name passes from a row that goes to a row that comes in one update', async () => {
  const swap = { Bridge: { [br1]: { insert: { name: 'br0' } }, [br0]: { delete: null } } }
  const handle = serving(bridges([br0, 'br0']), request => {
    request.socket.write(JSON.stringify({ method: 'update3', params: ['replica', noTransaction, swap], id: null }))
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = open(server)
  await client.ready(soon())
  const revision = client.replica.revision
  void client.transact(comment(), { signal: soon() }).catch(() => undefined)
  await client.waitFor(({ revision: now }) => (now > revision ? true : undefined), soon())
  assert.equal(client.replica.find('Bridge', 'name', 'br0')?._uuid, br1)
})

for (const [what, bytes] of [
  ['bytes that are no JSON', 'HTTP/1.1 400'],
  ['an answer to no request', '{"id":77,"result":[],"error":null}'],
  [
    'an update of a row that is not there',
    `{"method":"update3","params":["replica","",{"Bridge":{"${br1}":{"modify":{"name":"x"}}}}],"id":null}`,
  ],
  ['the end of the monitor', '{"method":"monitor_canceled","params":["replica"],"id":null}'],
] as const) {
  test(`${what} ends the connection, and the next one begins anew`, async () => {
    const handle = serving(bridges([br0, 'br0']), request => request.socket.write(bytes))
    await using server = await startFakeOvsdbServer(handle)
    await using client = open(server)
    await client.ready(soon())
    await assert.rejects(client.transact(comment(), { signal: soon() }), problemKind('outcome-unknown'))
    assert.equal(client.readings.losses, 1)
    await client.ready(soon())
    assert.equal(server.connectionCount, 2)
  })
}

for (const [what, answer] of [
  ['is no array', {}],
  ['is null', null],
  ['is too short', []],
] as const) {
  test(`an answer that ${what} tells nothing of the transaction, and ends the connection`, async () => {
    await using server = await startFakeOvsdbServer(serving(bridges([br0, 'br0']), request => request.answer(answer)))
    await using client = open(server)
    await client.ready(soon())
    await assert.rejects(client.transact(comment(), { signal: soon() }), problemKind('outcome-unknown'))
    assert.equal(client.readings.losses, 1)
    assert.deepEqual([client.readings.transactionsUnknown, client.readings.transactionsRefused], [1, 0])
  })
}

test('an answer that comes twice counts once, and ends the connection', async () => {
  const handle = serving({}, request => {
    request.answer([{}])
    request.answer([{ error: 'range error' }])
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = open(server)
  await client.ready(soon())
  await client.transact(comment(), { signal: soon() })
  const waiting = () => (client.status.state === 'waiting' ? client.status.problem : undefined)
  assert.equal((await client.waitFor(waiting, soon())).kind, 'protocol')
})

test('a dump that has not changed since the loss is no change to anybody', async () => {
  const handle = serving(bridges([br0, 'br0'], [br1, 'br1']), request => request.socket.destroy())
  await using server = await startFakeOvsdbServer(handle)
  await using client = open(server)
  await client.ready(soon())
  const before = client.replica.find('Bridge', 'name', 'br0')
  const changes: Change<FakeView>[] = []
  using _subscription = client.subscribe(batch => changes.push(...batch))
  const { revision } = client.replica
  await client.transact(comment(), { signal: soon() }).catch(() => undefined)
  await client.ready(soon())
  assert.equal(server.connectionCount, 2)
  assert.deepEqual(changes, [])
  assert.equal(client.replica.revision, revision)
  assert.equal(client.replica.find('Bridge', 'name', 'br0'), before)
})

test('the echo of the server is answered', async () => {
  const handle = serving({}, request => {
    request.socket.write('{"method":"echo","params":["hello"],"id":"echo"}')
    setImmediate(() => request.answer([{}]))
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = open(server)
  await client.ready(soon())
  await client.transact(comment(), { signal: soon() })
  await client.transact(comment(), { signal: soon() })
  assert.deepEqual(server.answers[0], { result: ['hello'], error: null, id: 'echo' })
})

test('a listener that throws harms no other', async () => {
  const failures: unknown[] = []
  await using server = await startFakeOvsdbServer(serving(bridges([br0, 'br0'])))
  const endpoint = { kind: 'unix', path: server.socketPath } as const
  await using client = openOvsdb({
    endpoint,
    schema: generated,
    monitor,
    onEvent: event => {
      if (event.kind === 'listener-failed') failures.push(event.error)
    },
  })
  const thrown = new Error('mine')
  let told = 0
  client.subscribe(() => {
    throw thrown
  })
  client.subscribe(changes => {
    told += changes.length
  })
  await client.ready(soon())
  assert.deepEqual([failures, told], [[thrown], 1])
})

test('a subscriber who is gone is told no more, though another has sent it away just now', async () => {
  await using server = await startFakeOvsdbServer(serving(bridges([br0, 'br0'])))
  await using client = open(server)
  const told: string[] = []
  const first = client.subscribe(() => {
    told.push('first')
    first[Symbol.dispose]()
    second[Symbol.dispose]()
    client.subscribe(() => void told.push('newcomer'))
  })
  const second = client.subscribe(() => void told.push('second'))
  client.subscribe(() => void told.push('third'))
  await client.ready(soon())
  assert.deepEqual(told, ['first', 'third'])
})

test('each listener is told of states in their order, though one of them brings the next about', async () => {
  await using server = await startFakeOvsdbServer(serving({}))
  await using client = open(server)
  client.onStatus(({ state }) => {
    if (state === 'ready') void client[Symbol.asyncDispose]()
  })
  const states: string[] = []
  client.onStatus(({ state }) => void states.push(state))
  await until('the client is closed', () => client.status.state === 'closed')
  assert.deepEqual(states.slice(-2), ['ready', 'closed'])
})

test('a log and a trace that throw harm nobody, and a warning tells of them', async () => {
  const warnings = new Set<string>()
  const onWarning = (warning: Error) => void warnings.add(warning.message)
  process.on('warning', onWarning)
  const fail = (message: string) => () => {
    throw new Error(message)
  }
  await using server = await startFakeOvsdbServer(serving(bridges([br0, 'br0']), request => request.answer([{}])))
  await using client = open(server, {}, { onEvent: fail('log'), trace: fail('trace') })
  await client.ready(soon())
  server.disconnect()
  await client.waitFor(() => (client.readings.loads === 2 ? true : undefined), soon())
  await client.transact(comment(), { signal: soon() })
  await until('both are warned of', () => warnings.has('log') && warnings.has('trace'))
  process.off('warning', onWarning)
})

test('closing the client ends every wait', async () => {
  await using server = await startFakeOvsdbServer(serving({}))
  const client = open(server)
  await client.ready(soon())
  const waiting = client.waitFor(replica => replica.find('Bridge', 'name', 'never'), soon())
  const transacting = client.transact(comment(), { signal: soon() })
  const ended = Promise.all([
    assert.rejects(waiting, problemKind('not-connected')),
    assert.rejects(transacting, problemKind('outcome-unknown')),
  ])
  await client[Symbol.asyncDispose]()
  await ended
  await assert.rejects(client.ready(soon()), problemKind('not-connected'))
})

test('a wait ends with the reason of its signal', async () => {
  await using server = await startFakeOvsdbServer(serving({}))
  await using client = open(server)
  const giveUp = new AbortController()
  const waiting = client.waitFor(() => undefined, giveUp.signal)
  giveUp.abort(new Error('enough'))
  await assert.rejects(waiting, /enough/)
})

test('a request that the client does not know is refused', async () => {
  const handle = serving({}, request => {
    request.socket.write('{"method":"get_schema","params":["x"],"id":"q"}')
    setImmediate(() => request.answer([{}]))
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = open(server)
  await client.ready(soon())
  for (let i = 0; i < 2; i++) await client.transact(comment(), { signal: soon() })
  assert.deepEqual(server.answers[0], { result: null, error: 'unknown method', id: 'q' })
})

test('a lock that has no name the protocol allows is a defect', () => {
  const endpoint = { kind: 'unix', path: '/nowhere' } as const
  assert.throws(() => openOvsdb({ endpoint, schema: generated, monitor, lock: 'my-lock' }), TypeError)
})

test('a database that an old server does not have is a problem that is told, and tried again', async () => {
  await using server = await startFakeOvsdbServer(request => {
    if (request.method === 'get_schema') request.refuse({ error: 'unknown database', details: 'no' })
    else request.refuse('unknown method')
  })
  await using client = open(server)
  const problem = await client.waitFor(
    () => (client.status.state === 'waiting' ? client.status.problem : undefined),
    soon(),
  )
  assert.ok(problem.kind === 'rejected')
  assert.equal(problem.error, 'unknown database')
  await until('it tries again', () => server.connectionCount > 1)
})

for (const [what, notification] of [
  ['a row that comes a second time', { [br0]: { insert: { name: 'x' } } }],
  ['the end of a row that is not there', { [br1]: { delete: null } }],
] as const) {
  test(`${what} ends the connection, and the replica is loaded anew`, async () => {
    const handle = serving(bridges([br0, 'br0']), ({ socket }) => {
      const params = ['replica', noTransaction, { Bridge: notification }]
      socket.write(JSON.stringify({ method: 'update3', params, id: null }))
    })
    await using server = await startFakeOvsdbServer(handle)
    await using client = open(server)
    await client.ready(soon())
    await assert.rejects(client.transact(comment(), { signal: soon() }), problemKind('outcome-unknown'))
    await client.ready(soon())
    assert.deepEqual(
      [...client.replica.rows('Bridge')].map(row => row.name),
      ['br0'],
    )
  })
}
