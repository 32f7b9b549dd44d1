import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newTransaction, OvsdbError, type OvsdbEvent } from '../../src/ovsdb/index.js'
import { startFakeOvsdbServer } from '../support/fake-ovsdb-server.js'
import { br0, bridges, type FakeClient, liveSchema, openFake, serving, soon } from '../support/fake-session.js'

const { tables } = liveSchema
const olderSchema = {
  ...liveSchema,
  tables: { ...tables, Port: { ...tables.Port, columns: { name: { type: 'string' } } } },
}

function schemaProblem(client: FakeClient) {
  return client.waitFor(() => (client.status.state === 'waiting' ? client.status.problem : undefined), soon())
}

test('columns that an older server lacks are named, and read as their defaults', async () => {
  const lacking: OvsdbEvent[] = []
  await using server = await startFakeOvsdbServer(
    serving({ Port: { [br0]: { initial: { name: 'p' } } } }, undefined, olderSchema),
  )
  const onEvent = (event: OvsdbEvent) => void (event.kind === 'lacking' && lacking.push(event))
  await using client = openFake(server, {}, { onEvent })
  await client.ready(soon())
  assert.deepEqual(lacking, [{ kind: 'lacking', columns: ['Port.tag'] }])
  assert.equal(client.replica.find('Port', 'name', 'p')?.tag, undefined)
  const tx = newTransaction(client.schema)
  assert.throws(
    () => tx.insert('Port', { name: 'q', tag: 1 }),
    (error: unknown) => {
      assert.ok(error instanceof OvsdbError && error.problem.kind === 'invalid-value')
      return error.problem.column === 'tag'
    },
  )
})

test('a server that lacks a column that the program needs is refused by its name', async () => {
  await using server = await startFakeOvsdbServer(serving({}, undefined, olderSchema))
  await using client = openFake(server, {}, { required: { Port: ['name', 'tag'] } })
  const problem = await schemaProblem(client)
  assert.ok(problem.kind === 'schema-mismatch')
  assert.deepEqual(problem.columns, ['Port.tag'])
  assert.match(problem.message, /Open_vSwitch, version 8.0.0, lacks Port.tag/)
})

test('a server that has a column of another type is refused by its name', async () => {
  const columns = { ...tables.Port.columns, tag: { type: { key: 'integer', min: 0, max: 'unlimited' } } }
  const other = { ...liveSchema, tables: { ...tables, Port: { ...tables.Port, columns } } }
  await using server = await startFakeOvsdbServer(serving({}, undefined, other))
  await using client = openFake(server)
  const problem = await schemaProblem(client)
  assert.ok(problem.kind === 'schema-mismatch')
  assert.deepEqual(problem.columns, ['Port.tag'])
})

test('tables and columns that only a newer server has do no harm', async () => {
  const newer = {
    ...liveSchema,
    tables: {
      ...tables,
      Novelty: { columns: { of: { type: 'string' } } },
      Bridge: {
        ...tables.Bridge,
        columns: { ...tables.Bridge.columns, novelty: { type: { key: 'integer', max: 5, min: 0 } } },
      },
    },
  }
  await using server = await startFakeOvsdbServer(serving(bridges([br0, 'br0']), undefined, newer))
  await using client = openFake(server)
  await client.ready(soon())
  assert.deepEqual(Object.keys(client.replica.find('Bridge', 'name', 'br0') ?? {}), ['_uuid', 'name', 'ports'])
  assert.ok(client.schema.tables['Novelty'])
})
