import assert from 'node:assert/strict'
import { test } from 'node:test'
import { schema, type Tables } from '../../src/gen/vswitch.js'
import { newTransaction, type OvsdbProblem } from '../../src/ovsdb/index.js'
import { type Received, startFakeOvsdbServer } from '../support/fake-ovsdb-server.js'
import { type FakeClient, openFake as open, serving } from '../support/fake-session.js'
import { soon, until } from '../support/until.js'

/** A transaction of so many steps. */
function steps(count: number) {
  const tx = newTransaction<Tables>(schema)
  for (let i = 0; i < count; i++) tx.comment(`${i}`)
  return tx
}

function answerSteps(request: Received, count: number): void {
  request.answer(Array.from({ length: count }, () => ({})))
}

/** Why the connection was given up. */
function firstLoss(client: FakeClient): Promise<OvsdbProblem> {
  return client.waitFor(() => (client.status.state === 'waiting' ? client.status.problem : undefined), soon())
}

/** Holds the only thread up, so that what is due and what has come wait side by side. */
function blockMs(durationMs: number): void {
  const end = performance.now() + durationMs
  while (performance.now() < end);
}

test('a server that falls silent is given up after a probe', async () => {
  const probes: string[] = []
  await using server = await startFakeOvsdbServer(serving({}, ({ method }) => probes.push(method)))
  // The next connection, which would be probed too, is not made before the test is over.
  await using client = open(server, { probeIntervalMs: 50, minBackoffMs: 60_000, maxBackoffMs: 60_000 })
  await client.ready(soon())
  const problem = await firstLoss(client)
  assert.deepEqual(probes, ['echo'])
  assert.equal(problem.kind, 'not-connected')
})

test('a large transaction is given its time before the server is probed', async () => {
  let sentAt = 0
  let probedAfterMs = 0
  let answer = () => {}
  const handle = serving({}, request => {
    if (request.method === 'transact') answer = () => answerSteps(request, 100)
    else {
      probedAfterMs = performance.now() - sentAt
      answer()
    }
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = open(server, { probeIntervalMs: 20 })
  await client.ready(soon())
  sentAt = performance.now()
  await client.transact(steps(100), { signal: soon() })
  assert(probedAfterMs > 200, `probed after ${probedAfterMs} ms`)
})

test('the time that was given for work is over with the work', async () => {
  const handle = serving({}, request => {
    if (request.method === 'transact') setTimeout(() => answerSteps(request, 20_000), 100)
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = open(server, { probeIntervalMs: 20 })
  await client.ready(soon())
  // Good for 100 s of silence, while it lasts.
  await client.transact(steps(20_000), { signal: soon() })
  assert.equal((await firstLoss(client)).kind, 'not-connected')
})

test('however much it has to do, a silent server is given no more than the time for loading', async () => {
  await using server = await startFakeOvsdbServer(serving({}))
  await using client = open(server, { probeIntervalMs: 20, loadTimeoutMs: 500 })
  await client.ready(soon())
  client.transact(steps(20_000), { signal: soon() }).catch(() => undefined)
  assert.equal((await firstLoss(client)).kind, 'not-connected')
})

test('an answer that has come while the program was busy counts before the silence does', async () => {
  let echoes = 0
  const handle = serving({}, request => {
    if (request.method !== 'echo') return
    request.answer([])
    if (++echoes <= 3) blockMs(300)
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = open(server, { probeIntervalMs: 100 })
  await client.ready(soon())
  await until('the server is probed again', () => echoes > 3)
  assert.equal(client.readings.losses, 0)
})

test('patience may be without end', async () => {
  const warnings: string[] = []
  const onWarning = (warning: Error) => void warnings.push(warning.name)
  process.on('warning', onWarning)
  const forEver = Number.POSITIVE_INFINITY
  await using server = await startFakeOvsdbServer(serving({}, request => answerSteps(request, 1)))
  await using client = open(server, { probeIntervalMs: forEver, loadTimeoutMs: forEver, connectTimeoutMs: forEver })
  await client.ready(soon())
  await client.transact(steps(1), { signal: soon() })
  await client.transact(steps(1), { signal: soon() })
  process.off('warning', onWarning)
  assert.deepEqual(warnings, [])
})
