import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { callJsonRpc } from '../../src/lib/json-rpc.js'
import { newTransaction, type OvsdbClient, OvsdbError, openOvsdb, type Uuid } from '../../src/ovsdb/index.js'
import { type DatabaseSchema, parseSchema } from '../../src/ovsdb/schema.js'
import { laneTest } from '../support/lane.js'
import { problemKind } from '../support/ovsdb-problem.js'
import { type PrivateOvsdbServer, startOvsdbServer } from '../support/ovsdb-server.js'
import { soon } from '../support/until.js'

/** No datapath takes part, so one lane is enough. */
const userspace = { only: 'userspace' } as const

interface Thing {
  readonly _uuid: Uuid
  readonly name: string
  readonly whole: number | bigint
  readonly real: number
  readonly yes: boolean
  readonly text: string | undefined
  readonly wholes: readonly (number | bigint)[]
  readonly reals: readonly number[]
  readonly texts: readonly string[]
  readonly pairs: ReadonlyMap<string, number | bigint>
  readonly least: ReadonlyMap<string, number | bigint>
  readonly numbered: ReadonlyMap<number | bigint, string>
  readonly choice: string
  readonly one: number | bigint
  readonly short: string
  readonly part: number
  readonly strong: Uuid | undefined
  readonly weak: readonly Uuid[]
  readonly passing: string
}
interface Things {
  readonly Thing: Thing
  readonly Part: { readonly _uuid: Uuid; readonly label: string }
}

const many = { min: 0, max: 'unlimited' }
const schemaJson = {
  name: 'Things',
  version: '1.0.0',
  tables: {
    Thing: {
      isRoot: true,
      indexes: [['name']],
      columns: {
        name: { type: 'string', mutable: false },
        whole: { type: 'integer' },
        real: { type: 'real' },
        yes: { type: 'boolean' },
        text: { type: { key: 'string', min: 0 } },
        wholes: { type: { key: 'integer', ...many } },
        reals: { type: { key: 'real', ...many } },
        texts: { type: { key: 'string', ...many } },
        pairs: { type: { key: 'string', value: 'integer', ...many } },
        least: { type: { key: 'string', value: 'integer', min: 1, max: 'unlimited' } },
        numbered: { type: { key: 'integer', value: 'string', ...many } },
        choice: { type: { key: { type: 'string', enum: ['set', ['red', 'green']] } } },
        one: { type: { key: { type: 'integer', enum: ['set', [0, 3]] } } },
        short: { type: { key: { type: 'string', maxLength: 2 } } },
        part: { type: { key: { type: 'real', minReal: 0, maxReal: 1 } } },
        strong: { type: { key: { type: 'uuid', refTable: 'Part', refType: 'strong' }, min: 0 } },
        weak: { type: { key: { type: 'uuid', refTable: 'Thing', refType: 'weak' }, ...many } },
        passing: { type: 'string', ephemeral: true },
      },
    },
    Part: { columns: { label: { type: 'string' } } },
  },
}
const schema: DatabaseSchema<Things> = parseSchema(schemaJson)
const monitor = {
  Thing: [
    'name',
    'whole',
    'real',
    'yes',
    'text',
    'wholes',
    'reals',
    'texts',
    'pairs',
    'least',
    'numbered',
    'choice',
    'one',
    'short',
    'part',
    'strong',
    'weak',
    'passing',
  ],
  Part: ['label'],
} as const

async function startThings(): Promise<PrivateOvsdbServer> {
  const directory = await mkdtemp(join(tmpdir(), 'things-'))
  const schemaPath = join(directory, 'things.ovsschema')
  await writeFile(schemaPath, JSON.stringify(schemaJson))
  try {
    return await startOvsdbServer({ schemaPath })
  } finally {
    await rm(directory, { recursive: true })
  }
}

async function openThings(server: PrivateOvsdbServer): Promise<OvsdbClient<Things>> {
  const endpoint = { kind: 'unix', path: server.socketPath } as const
  const patience = { minBackoffMs: 20, maxBackoffMs: 50 }
  const client = openOvsdb<Things, typeof monitor>({ endpoint, schema, monitor, patience })
  await client.ready(soon())
  return client
}

const edges: readonly Partial<Thing>[] = [
  {},
  { whole: 2 ** 53 - 1, real: 1e-300, yes: true, text: '' },
  { whole: 2n ** 63n - 1n, real: -1.5, text: 'ü€😀 "\\/\n\u0001\u2028' },
  { whole: -(2n ** 63n), real: 123_456_789.25, text: '9007199254740993' },
  { wholes: [9007199254740993n, 9007199254740992n, 0, -1], reals: [0.5, 1e20], texts: ['', 'set', 'map', '{"['] },
  {
    pairs: new Map<string, number | bigint>([
      ['', 0],
      ['big', 9007199254740993n],
      ['__proto__', 1],
    ]),
    numbered: new Map<number | bigint, string>([
      [2n ** 62n, 'x'],
      [0, ''],
    ]),
  },
  { choice: 'green', passing: 'by', least: new Map([['a', 1]]) },
  { one: 3, short: 'ü😀', part: 1 },
]

laneTest(
  'every kind of value goes to the server and comes back as it was, to whoever reads it',
  userspace,
  async () => {
    await using server = await startThings()
    await using client = await openThings(server)
    const tx = newTransaction(schema)
    edges.forEach((values, i) => void tx.insert('Thing', { choice: 'red', ...values, name: `t${i}` }))
    await client.transact(tx, { signal: soon() })
    await using other = await openThings(server)
    for (const [i, values] of edges.entries()) {
      const row = client.replica.find('Thing', 'name', `t${i}`)
      assert.ok(row)
      assert.deepEqual(sorted({ ...row, ...values }), sorted({ ...row }))
      // An update leaves out what is at its default, a select does not.
      const look = newTransaction(schema)
      const selection = look.select('Thing', row._uuid, monitor.Thing)
      const selected = (await client.transact(look, { signal: soon() })).row(selection)
      assert.deepEqual(sorted({ ...selected }), sorted({ ...row }))
      assert.deepEqual(sorted({ ...other.replica.find('Thing', 'name', `t${i}`) }), sorted({ ...row }))
    }
  },
)

const refused: readonly (readonly [Partial<Thing>, wire: object])[] = [
  [{ short: 'ü€😀' }, { short: 'ü€😀' }],
  [{ part: 1.5 }, { part: 1.5 }],
  [{ one: 2 }, { one: 2 }],
  [{ choice: '' }, { choice: '' }],
  [{ wholes: [1, 1n] }, { wholes: ['set', [1, 1]] }],
  [{ least: new Map() }, { least: ['map', []] }],
]

laneTest('what the schema does not allow is refused by the client, and would be by the server', userspace, async () => {
  await using server = await startThings()
  const insert = (row: object) => ({ op: 'insert', table: 'Thing', row: { name: 't', choice: 'red', ...row } })
  for (const [values, row] of refused) {
    const tx = newTransaction(schema)
    assert.throws(() => tx.insert('Thing', { name: 't', choice: 'red', ...values }), problemKind('invalid-value'))
    const answer = await callJsonRpc(server.socketPath, 'transact', ['Things', insert(row)], soon())
    assert.match(JSON.stringify(answer), /"error":/)
  }
  await using client = await openThings(server)
  const tx = newTransaction(schema)
  tx.insert('Thing', { name: 't', choice: 'red', one: 3n, whole: 5n, wholes: [7n, 2n ** 60n] })
  await client.transact(tx, { signal: soon() })
  const row = client.replica.find('Thing', 'name', 't')
  assert.deepEqual([row?.one, row?.whole, new Set(row?.wholes)], [3, 5, new Set([7, 2n ** 60n])])
})

/** The server keeps sets in an order of its own. */
function sorted(row: object): object {
  const entries: [string, unknown][] = Object.entries(row)
  return Object.fromEntries(
    entries.map(([name, value]) => [name, Array.isArray(value) ? new Set<unknown>(value) : value]),
  )
}

laneTest('a row that is still referred to cannot go, and a weak reference goes with its row', userspace, async () => {
  await using server = await startThings()
  await using client = await openThings(server)
  const add = newTransaction(schema)
  const part = add.insert('Part', { label: 'p' })
  const first = add.insert('Thing', { name: 'first', choice: 'red', strong: part })
  const second = add.insert('Thing', { name: 'second', choice: 'red', weak: [first] })
  const done = await client.transact(add, { signal: soon() })
  const cut = newTransaction(schema)
  cut.delete('Part', done.uuid(part))
  await assert.rejects(client.transact(cut, { signal: soon() }), (error: unknown) => {
    assert.ok(error instanceof OvsdbError && error.problem.kind === 'rejected')
    return error.problem.error === 'referential integrity violation' && error.problem.operationIndex === undefined
  })
  const remove = newTransaction(schema)
  remove.delete('Thing', done.uuid(first))
  await client.transact(remove, { signal: soon() })
  assert.deepEqual(client.replica.get('Thing', done.uuid(second))?.weak, [])
  assert.deepEqual([...client.replica.rows('Part')], [], 'a row that is no root goes with the last reference to it')
  await assert.rejects(client.transact(remove, { signal: soon() }), problemKind('row-vanished'))
})

laneTest('a row that nothing refers to would vanish at the commit, and is not sent', userspace, async () => {
  await using server = await startThings()
  const insert = { op: 'insert', table: 'Part', row: { label: 'alone' } }
  const answer = await callJsonRpc(server.socketPath, 'transact', ['Things', insert], soon())
  assert.match(JSON.stringify(answer), /^\[{"uuid":/, 'the server says nothing of it')
  await using client = await openThings(server)
  assert.deepEqual([...client.replica.rows('Part')], [])
  const orphan = newTransaction(schema)
  const thing = orphan.insert('Thing', { name: 't', choice: 'red' })
  orphan.insert('Part', { label: 'alone' })
  const vanishing = client.transact(orphan, { signal: soon() })
  await assert.rejects(vanishing, (error: unknown) => {
    assert.ok(error instanceof OvsdbError && error.problem.kind === 'invalid-value')
    return error.problem.table === 'Part' && error.problem.column === '_uuid'
  })
  assert.deepEqual([...client.replica.rows('Thing')], [])
  const part = orphan.insert('Part', { label: 'kept' })
  orphan.update('Thing', thing, { strong: part })
  await assert.rejects(
    client.transact(orphan, { signal: soon() }),
    problemKind('invalid-value'),
    'the first is still alone',
  )
})

laneTest('an ephemeral column is empty after a restart, and that is told as a change', userspace, async () => {
  await using server = await startThings()
  await using client = await openThings(server)
  assert.equal(client.schema.tables['Thing']?.columns['passing']?.ephemeral, true)
  const tx = newTransaction(schema)
  tx.insert('Thing', { name: 't', choice: 'red', passing: 'by', whole: 7 })
  await client.transact(tx, { signal: soon() })
  await server.kill()
  await server.start()
  const row = await client.waitFor(replica => {
    const found = replica.find('Thing', 'name', 't')
    return found?.passing === '' ? found : undefined
  }, soon())
  assert.equal(row.whole, 7)
})
