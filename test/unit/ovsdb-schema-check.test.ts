import assert from 'node:assert/strict'
import { test } from 'node:test'
import { newTransaction, OvsdbError, type OvsdbEvent } from '../../src/ovsdb/index.js'
import { parseSchema } from '../../src/ovsdb/schema.js'
import { compareSchemas } from '../../src/ovsdb/schema-check.js'
import { startFakeOvsdbServer } from '../support/fake-ovsdb-server.js'
import { br0, bridges, type FakeClient, liveSchema, openFake, serving } from '../support/fake-session.js'
import { problemKind } from '../support/ovsdb-problem.js'
import { soon } from '../support/until.js'

const { tables } = liveSchema
const olderSchema = {
  ...liveSchema,
  tables: { ...tables, Port: { ...tables.Port, columns: { name: { type: 'string' } } } },
}

const map = { key: 'string', value: 'integer', min: 0 } as const

function oneColumn(type: object) {
  return parseSchema({ name: 'S', version: '1.0.0', tables: { T: { columns: { c: { type } } } } })
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

for (const [what, type] of [
  ['a set for an optional', { key: 'integer', min: 0, max: 'unlimited' }],
  ['another type of element', { key: 'string', min: 0 }],
  ['a map for an optional', { key: 'integer', value: 'integer', min: 0, max: 1 }],
] as const) {
  test(`a server that has a column of another type, ${what}, is refused by its name`, async () => {
    const columns = { ...tables.Port.columns, tag: { type } }
    const other = { ...liveSchema, tables: { ...tables, Port: { ...tables.Port, columns } } }
    await using server = await startFakeOvsdbServer(serving({}, undefined, other))
    await using client = openFake(server)
    const problem = await schemaProblem(client)
    assert.ok(problem.kind === 'schema-mismatch')
    assert.deepEqual(problem.columns, ['Port.tag'])
  })
}

test('every table of a schema that names no root is one', () => {
  const table = { columns: {} }
  const parsed = (tables: object) => parseSchema({ name: 'S', version: '1.0.0', tables }).tables
  assert.equal(parsed({ A: table, B: { ...table, isRoot: false } })['B']?.isRoot, true)
  assert.equal(parsed({ A: table, B: { ...table, isRoot: true } })['A']?.isRoot, false)
})

for (const [what, ours, theirs, isAlike] of [
  ['an optional and one that is always there', { key: 'string', min: 0 }, { key: 'string' }, true],
  ['one that is always there and an optional', { key: 'string' }, { key: 'string', min: 0 }, false],
  ['sets of different sizes', { key: 'string', max: 5 }, { key: 'string', min: 0, max: 'unlimited' }, true],
  ['maps of different sizes', { ...map, max: 5 }, { ...map, max: 'unlimited' }, true],
  ['a map of one pair and one of many', { ...map, max: 1 }, { ...map, max: 'unlimited' }, false],
  ['maps of other values', map, { ...map, value: 'string' }, false],
] as const) {
  test(`${what} are ${isAlike ? 'read alike' : 'not read alike'}`, () => {
    const wanted = new Map([['T', ['c']]])
    const compare = () => compareSchemas(oneColumn(ours), oneColumn(theirs), wanted, new Map())
    if (isAlike) assert.deepEqual(compare().columns, wanted)
    else assert.throws(compare, problemKind('schema-mismatch'))
  })
}

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
