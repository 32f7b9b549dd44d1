import assert from 'node:assert/strict'
import { test } from 'node:test'
import { schema, type Tables } from '../../src/gen/vswitch.js'
import { newTransaction } from '../../src/ovsdb/index.js'
import { traceLine, traceOfEnvironment } from '../../src/ovsdb/trace.js'
import { startFakeOvsdbServer } from '../support/fake-ovsdb-server.js'
import { br0, bridges, openFake, serving } from '../support/fake-session.js'
import { soon } from '../support/until.js'

/** No probe comes between, however slow the machine. */
const calm = { probeIntervalMs: 60_000 }

function comment() {
  const tx = newTransaction<Tables>(schema)
  tx.comment('x')
  return tx
}

test('the readings count what a client has done', async () => {
  const answers = [
    (request: { answer(result: unknown): void }) => request.answer([{}]),
    (request: { answer(result: unknown): void }) => request.answer([{ error: 'range error' }]),
  ]
  const handle = serving(bridges([br0, 'br0']), request => {
    const answer = answers.shift()
    if (answer === undefined) request.socket.destroy()
    else answer(request)
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = openFake(server)
  await client.ready(soon())
  for (let i = 0; i < 3; i++) await client.transact(comment(), { signal: soon() }).catch(() => undefined)
  await client.ready(soon())
  const { bytesReceived, bytesSent, ...rest } = client.readings
  assert.ok(bytesReceived > 0 && bytesSent > 0)
  assert.deepEqual(rest, {
    connects: 2,
    losses: 1,
    loads: 2,
    probes: 0,
    messagesReceived: 8,
    messagesSent: 9,
    transactionsCommitted: 1,
    transactionsRefused: 1,
    transactionsUnknown: 1,
    changes: 1,
    pendingCalls: 0,
    unsentBytes: 0,
    rows: 1,
  })
})

test('the trace has each message in a line, its uuids shortened', async () => {
  const lines: string[] = []
  await using server = await startFakeOvsdbServer(serving(bridges([br0, 'br0'])))
  await using client = openFake(server, calm, { trace: line => void lines.push(line) })
  await client.ready(soon())
  assert.equal(lines[0], '> {"method":"set_db_change_aware","params":[true],"id":1}')
  assert.equal(lines[1], '< {"id":1,"result":null,"error":"unknown method"}')
  const dump =
    '< {"id":3,"result":[false,"00000000…",{"Bridge":{"0a1b2c3d…":{"initial":{"name":"br0"}}}}],"error":null}'
  assert.equal(lines.at(-1), dump)
})

test('a long message is cut off in the trace', () => {
  const line = traceLine('<', 'x'.repeat(5000))
  assert.equal(line, `< ${'x'.repeat(2000)}… 3000 characters more`)
})

test('OVSDB_TRACE=1 prints the trace, anything else does not', () => {
  const before = process.env['OVSDB_TRACE']
  try {
    process.env['OVSDB_TRACE'] = '1'
    assert.ok(traceOfEnvironment())
    process.env['OVSDB_TRACE'] = '0'
    assert.equal(traceOfEnvironment(), undefined)
  } finally {
    if (before === undefined) delete process.env['OVSDB_TRACE']
    else process.env['OVSDB_TRACE'] = before
  }
})
