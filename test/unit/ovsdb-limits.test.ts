import assert from 'node:assert/strict'
import { test } from 'node:test'
import { schema, type Tables } from '../../src/gen/vswitch.js'
import { type Limits, newTransaction, OvsdbError, type OvsdbProblem } from '../../src/ovsdb/index.js'
import { type Received, startFakeOvsdbServer } from '../support/fake-ovsdb-server.js'
import { br0, br1, bridges, type FakeClient, noTransaction, openFake, serving } from '../support/fake-session.js'
import { isLimit, problemKind } from '../support/ovsdb-problem.js'
import { soon, until } from '../support/until.js'

function comment(text = 'x') {
  const tx = newTransaction<Tables>(schema)
  tx.comment(text)
  return tx
}

/** Why the connection was given up. */
function firstLoss(client: FakeClient): Promise<OvsdbProblem> {
  return client.waitFor(() => (client.status.state === 'waiting' ? client.status.problem : undefined), soon())
}

/** Keeps writing what `piece` gives, as fast as the other end takes it, until there is none or the other end is gone. */
function pour({ socket }: Received, piece: () => string | Buffer | undefined): void {
  const more = () => {
    for (let goesOn = !socket.destroyed; goesOn; ) {
      const next = piece()
      goesOn = next !== undefined && socket.write(next)
    }
  }
  socket.on('drain', more)
  more()
}

test('a call beyond the pending ones is refused and not sent, and the others go on', async () => {
  const held: Received[] = []
  await using server = await startFakeOvsdbServer(serving({}, request => void held.push(request)))
  await using client = openFake(server, {}, { limits: { maxPendingCalls: 3 } })
  await client.ready(soon())
  const sent = [1, 2, 3].map(() => client.transact(comment(), { signal: soon() }))
  assert.equal(client.readings.pendingCalls, 3)
  await assert.rejects(client.transact(comment(), { signal: soon() }), isLimit('maxPendingCalls'))
  await until('all three came', () => held.length === 3)
  for (const request of held) request.answer([{}])
  await Promise.all(sent)
  const { transactionsCommitted, transactionsRefused } = client.readings
  assert.deepEqual([transactionsCommitted, transactionsRefused], [3, 0])
})

test('a server that stops reading costs no more than the limit, and is given up', async () => {
  await using server = await startFakeOvsdbServer(serving({}, ({ socket }) => void socket.pause()))
  await using client = openFake(server, { probeIntervalMs: 1000 }, { limits: { maxUnsentBytes: 2 ** 20 } })
  await client.ready(soon())
  const outcomes = Array.from({ length: 200 }, () =>
    client.transact(comment('x'.repeat(2 ** 14)), { signal: soon() }).catch((error: unknown) => error),
  )
  assert.ok(client.readings.unsentBytes <= 2 ** 20)
  // It is the silence that counts.
  assert.equal((await firstLoss(client)).kind, 'not-connected')
  const problems = await Promise.all(outcomes)
  assert.ok(problems.every(error => isLimit('maxUnsentBytes')(error) || problemKind('outcome-unknown')(error)))
  assert.ok(problems.some(isLimit('maxUnsentBytes')))
})

test('a server that asks and does not read the answers is given up', async () => {
  const echo = JSON.stringify({ method: 'echo', params: ['x'.repeat(2 ** 16)], id: 'echo' })
  const handle = serving({}, request => {
    request.socket.pause()
    pour(request, () => echo)
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = openFake(server, {}, { limits: { maxUnsentBytes: 2 ** 20 } })
  await client.ready(soon())
  client.transact(comment(), { signal: soon() }).catch(() => undefined)
  const problem = await firstLoss(client)
  assert.ok(problem.kind === 'limit' && problem.limit === 'maxUnsentBytes')
})

for (const [what, limits, limit] of [
  ['rows', { maxRows: 1 }, 'maxRows'],
  ['bytes', { maxMessageBytes: 60 }, 'maxMessageBytes'],
  ['brackets within brackets', { maxNesting: 4 }, 'maxNesting'],
  ['brackets', { maxBrackets: 5 }, 'maxBrackets'],
] as const) {
  test(`a dump of too many ${what} is refused, and what the replica has stays`, async () => {
    await using server = await startFakeOvsdbServer(serving(bridges([br0, 'br0'], [br1, 'br1'])))
    await using client = openFake(server, {}, { limits })
    const problem = await firstLoss(client)
    assert.ok(problem.kind === 'limit' && problem.limit === limit, problem.message)
    assert.deepEqual([...client.replica.rows('Bridge')], [])
  })
}

test('a row beyond the limit is refused with the whole update, one that takes the place of another is not', async () => {
  const update = (changes: object) =>
    JSON.stringify({ method: 'update3', params: ['replica', noTransaction, { Bridge: changes }], id: null })
  const swap = update({ [br0]: { delete: null }, [br1]: { insert: { name: 'br1' } } })
  const more = update({ [br0]: { insert: { name: 'br0' } } })
  const updates = [swap, more]
  const handle = serving(bridges([br0, 'br0']), request => request.socket.write(updates.shift() ?? ''))
  await using server = await startFakeOvsdbServer(handle)
  await using client = openFake(server, {}, { limits: { maxRows: 1 } })
  await client.ready(soon())
  client.transact(comment(), { signal: soon() }).catch(() => undefined)
  await client.waitFor(replica => replica.find('Bridge', 'name', 'br1'), soon())
  client.transact(comment(), { signal: soon() }).catch(() => undefined)
  const problem = await firstLoss(client)
  assert.ok(problem.kind === 'limit' && problem.limit === 'maxRows')
})

/** A server that answers each transaction with the beginning of an update, `megabytes` of `filling`, and its end. */
function flooding(filling: string, megabytes: number, end: string): (request: Received) => void {
  const piece = Buffer.from(filling.repeat(2 ** 16 / filling.length))
  return serving({}, request => {
    request.socket.write('{"method":"update3","params":["replica",')
    request.socket.write(end.startsWith('"') ? '"' : '[')
    let left = megabytes * 1e6
    pour(request, () => {
      if (left < 0) return undefined
      left -= piece.length
      return left < 0 ? end : piece
    })
  })
}

async function lossFrom(handle: (request: Received) => void, limits: Partial<Limits> = {}) {
  await using server = await startFakeOvsdbServer(handle)
  await using client = openFake(server, {}, { limits })
  await client.ready(soon())
  client.transact(comment(), { signal: soon() }).catch(() => undefined)
  return { problem: await firstLoss(client), bytesReceived: client.readings.bytesReceived }
}

test('a value of 100 MB is given up at the limit and not read to its end', async () => {
  const { problem, bytesReceived } = await lossFrom(flooding('x', 100, '"],"id":null}'), { maxMessageBytes: 2 ** 23 })
  assert.ok(problem.kind === 'limit' && problem.limit === 'maxMessageBytes')
  assert.ok(bytesReceived < 2 ** 24)
})

test('a value of 100 MB within the limit is read, and named by its beginning where it does not belong', async () => {
  const { problem, bytesReceived } = await lossFrom(flooding('x', 100, '",{"Bridge":"x"}],"id":null}'))
  assert.equal(problem.message, 'expected table updates, got "x"')
  assert.ok(bytesReceived > 99e6)
})

test('100 MB of nothing but brackets are not made into a hundred times as much', async () => {
  const { problem, bytesReceived } = await lossFrom(flooding('{}, ', 100, '0]],"id":null}'))
  assert.ok(problem.kind === 'limit' && problem.limit === 'maxBrackets')
  assert.ok(bytesReceived < 20e6)
})

test('what a server says at great length is told in short', async () => {
  const details = 'because '.repeat(1e5)
  const handle = serving({}, request => request.answer([{ error: 'constraint violation', details }]))
  await using server = await startFakeOvsdbServer(handle)
  await using client = openFake(server)
  await client.ready(soon())
  await assert.rejects(client.transact(comment(), { signal: soon() }), (error: unknown) => {
    assert.ok(error instanceof OvsdbError && error.problem.kind === 'rejected')
    assert.match(error.message, /^constraint violation: because because/)
    return error.message.length < 2000 && (error.problem.details?.length ?? 0) < 2000
  })
})

test('a large value within the limit is read', async () => {
  const name = 'ü'.repeat(2 ** 21)
  await using server = await startFakeOvsdbServer(serving(bridges([br0, name])))
  await using client = openFake(server)
  await client.ready(soon())
  assert.equal(client.replica.find('Bridge', 'name', name)?._uuid, br0)
})

test('a server that answers echo and nothing else is given up', async () => {
  const handle = (request: Received) => {
    if (request.method === 'echo') request.answer([])
  }
  await using server = await startFakeOvsdbServer(handle)
  await using client = openFake(server, { probeIntervalMs: 20, loadTimeoutMs: 200 })
  assert.equal((await firstLoss(client)).kind, 'not-connected')
})

test('a message that never ends is given up, however steadily its bytes come', async () => {
  const handle = serving({}, ({ socket }) => {
    socket.write('{"method":"')
    const timer = setInterval(() => socket.write('x'), 5)
    socket.on('close', () => clearInterval(timer))
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = openFake(server, { loadTimeoutMs: 300 })
  await client.ready(soon())
  client.transact(comment(), { signal: soon() }).catch(() => undefined)
  assert.equal((await firstLoss(client)).kind, 'not-connected')
  await client.ready(soon())
})
