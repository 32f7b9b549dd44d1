import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Tables } from '../../src/gen/vswitch.js'
import { schema } from '../../src/gen/vswitch.js'
import { newTransaction, OvsdbError, type OvsdbProblem, type Transaction, type Uuid } from '../../src/ovsdb/index.js'
import { isUuid } from '../../src/ovsdb/notation.js'
import { planOperations, readOutcome } from '../../src/ovsdb/operation.js'

const a = uuid('0a1b2c3d-0000-4000-8000-000000000001')
const b = uuid('0a1b2c3d-0000-4000-8000-000000000002')

function uuid(text: string): Uuid {
  assert.ok(isUuid(text))
  return text
}

const twice = new Map<number | bigint, Uuid>([
  [1, a],
  [1n, b],
]) as never

function problemOf(run: () => unknown): OvsdbProblem {
  try {
    run()
  } catch (error) {
    assert.ok(error instanceof OvsdbError)
    return error.problem
  }
  return assert.fail('nothing was thrown')
}

for (const [what, build, column, reason] of [
  ['a tag out of range', tx => tx.update('Port', a, { tag: 4096 }), 'tag', /at most 4095/],
  ['a fraction', tx => tx.update('Port', a, { tag: 1.5 }), 'tag', /integer/],
  ['a mode that does not exist', tx => tx.update('Port', a, { vlan_mode: 'x' }), 'vlan_mode', /one of trunk/],
  ['a change of a name', tx => tx.update('Port', a, { name: 'x' }), 'name', /after the insert/],
  ['a NUL', tx => tx.insert('Port', { name: 'a\0b' }), 'name', /NUL/],
  ['half a surrogate pair', tx => tx.insert('Port', { name: 'a\ud800' }), 'name', /surrogate/],
  ['an element given twice', tx => tx.update('Port', a, { trunks: [1, 1] }), 'trunks', /twice/],
  ['too few elements', tx => tx.update('Port', a, { interfaces: [] }), 'interfaces', /at least 1/],
  [
    'an element given as number and as bigint',
    tx => tx.update('Port', a, { trunks: [1, 1n as never] }),
    'trunks',
    /twice/,
  ],
  ['a key given as number and as bigint', tx => tx.update('Bridge', a, { flow_tables: twice }), 'flow_tables', /twice/],
  ['an integer beyond 64 bits', tx => tx.update('Open_vSwitch', a, { next_cfg: 2n ** 63n }), 'next_cfg', /at most/],
  ['an unsafe number', tx => tx.update('Open_vSwitch', a, { next_cfg: 2 ** 53 }), 'next_cfg', /integer/],
] satisfies readonly (readonly [string, (tx: Transaction<Tables>) => void, string, RegExp])[]) {
  test(`${what} is refused by name`, () => {
    const tx = newTransaction(schema)
    const problem = problemOf(() => build(tx))
    assert.ok(problem.kind === 'invalid-value')
    assert.equal(problem.column, column)
    assert.match(problem.reason, reason)
    assert.equal(tx.operationCount, 0)
  })
}

test('a row that another transaction inserts cannot be referred to', () => {
  const elsewhere = newTransaction(schema).insert('Port', { name: 'p' })
  const problem = problemOf(() => newTransaction(schema).insert('Bridge', { name: 'b', ports: [elsewhere] }))
  assert.equal(problem.kind, 'invalid-value')
})

test('the names of inserted rows do not collide', () => {
  const tx = newTransaction(schema)
  const names = [tx.insert('Port', { name: 'a' }), tx.insert('Port', { name: 'b' })].map(row => row.namedUuid)
  assert.equal(new Set(names).size, 2)
})

test('undefined empties an optional column', () => {
  const tx = newTransaction(schema)
  tx.update('Port', a, { tag: undefined })
  assert.deepEqual(tx.operations[0], { op: 'update', table: 'Port', target: a, row: { tag: ['set', []] } })
})

test('an insert says nothing of a column that is empty', () => {
  const tx = newTransaction(schema)
  tx.insert('Port', { name: 'p', tag: undefined, trunks: [] })
  assert.deepEqual(tx.operations[0], { op: 'insert', table: 'Port', row: { name: 'p' }, as: { namedUuid: 'row0' } })
})

test('what is added to a set goes in one operation, each element once, rows being inserted in between or not', () => {
  const tx = newTransaction(schema)
  tx.mutate('Bridge', a, 'ports', 'insert', [tx.insert('Port', { name: 'p' })])
  tx.mutate('Bridge', a, 'ports', 'insert', [b])
  tx.mutate('Bridge', a, 'ports', 'insert', [b, tx.insert('Port', { name: 'q' })])
  const added = [
    ['named-uuid', 'row0'],
    ['uuid', b],
    ['named-uuid', 'row1'],
  ]
  assert.deepEqual(
    tx.operations.filter(({ op }) => op !== 'insert'),
    [{ op: 'mutate', table: 'Bridge', target: a, mutations: [['ports', 'insert', ['set', added]]] }],
  )
})

test('additions to a set stay apart when they are of different rows or columns, or a row was read or changed between', () => {
  const tx = newTransaction(schema)
  tx.mutate('Port', a, 'trunks', 'insert', [1])
  tx.mutate('Port', b, 'trunks', 'insert', [1])
  tx.mutate('Port', a, 'trunks', 'insert', [2])
  tx.select('Port', a, ['trunks'])
  tx.mutate('Port', a, 'trunks', 'insert', [3])
  tx.update('Port', a, { trunks: [] })
  tx.mutate('Port', a, 'trunks', 'insert', [4])
  tx.mutate('Port', a, 'trunks', 'delete', [4])
  tx.mutate('Port', a, 'trunks', 'insert', [4])
  tx.mutate('Port', a, 'cvlans', 'insert', [4])
  assert.deepEqual(
    tx.operations.map(({ op }) => op),
    ['mutate', 'mutate', 'mutate', 'select', 'mutate', 'update', 'mutate', 'mutate', 'mutate', 'mutate'],
  )
})

test('the lock is asserted first and each row is looked for once', () => {
  const tx = newTransaction(schema)
  tx.update('Port', a, { tag: 1 })
  tx.mutate('Port', a, 'trunks', 'insert', [2])
  tx.delete('Port', b)
  const roles = planOperations(tx.operations, 'l').steps.map(step => step.role)
  assert.deepEqual(roles, ['lock', 'guard', 'operation', 'operation', 'guard', 'operation'])
})

const failed = { error: 'timed out', details: '"where" clause test failed' }

for (const [what, answers, expected] of [
  ['the lock', [{ error: 'not owner' }, null, null, null, null, null, null], { kind: 'lock-lost', lock: 'l' }],
  [
    'a row that is gone',
    [{}, {}, failed, null, null, null, null],
    { kind: 'row-vanished', uuid: a, operationIndex: 1 },
  ],
  ['a wait', [{}, {}, {}, { count: 1 }, { count: 1 }, failed], { kind: 'precondition-failed', operationIndex: 3 }],
  [
    'an operation',
    [{}, { error: 'range error' }, null, null, null, null],
    { kind: 'rejected', error: 'range error', operationIndex: 0 },
  ],
  [
    'the commit',
    [{}, {}, {}, { count: 1 }, { count: 1 }, {}, { error: 'constraint violation', details: 'why' }],
    { kind: 'rejected', error: 'constraint violation', details: 'why', operationIndex: undefined },
  ],
  ['a short answer', [{}, {}], { kind: 'protocol' }],
] as const) {
  test(`the failure of ${what} names what failed`, () => {
    const tx = newTransaction(schema)
    tx.comment('zero')
    tx.update('Port', a, { tag: 1 })
    tx.update('Port', a, { tag: 2 })
    tx.wait('Bridge', b, { name: 'br0' })
    const problem = problemOf(() => readOutcome(planOperations(tx.operations, 'l'), answers))
    assert.deepEqual({ ...problem, ...expected }, problem)
  })
}

test('a change that is alone needs no look for its row: the count says whether it was there', () => {
  const tx = newTransaction(schema)
  tx.comment('zero')
  tx.update('Port', a, { tag: 1 })
  const plan = planOperations(tx.operations, undefined)
  assert.deepEqual(
    plan.steps.map(step => step.role),
    ['operation', 'operation'],
  )
  readOutcome(plan, [{}, { count: 1 }])
  const problem = problemOf(() => readOutcome(plan, [{}, { count: 0 }]))
  assert.ok(problem.kind === 'row-vanished')
  assert.deepEqual([problem.table, problem.uuid, problem.operationIndex], ['Port', a, 1])
})

for (const [what, build, reason] of [
  ['arithmetic on a string', tx => tx.mutate('Bridge', a, 'fail_mode' as never, '+=', 1 as never), /cannot be changed/],
  [
    'arithmetic on a set of strings',
    tx => tx.mutate('Bridge', a, 'protocols' as never, '+=', 1 as never),
    /cannot be changed/,
  ],
  ['a division by zero', tx => tx.mutate('Open_vSwitch', a, 'next_cfg', '/=', 0), /divided by zero/],
  ['an insert into a scalar', tx => tx.mutate('Open_vSwitch', a, 'next_cfg', 'insert' as never, 1), /at most one/],
  ['an unknown column', tx => tx.update('Bridge', a, { constructor: 1 } as never), /no column/],
  ['an unknown table', tx => tx.insert('constructor' as never, {}), /no table/],
] satisfies readonly (readonly [string, (tx: Transaction<Tables>) => void, RegExp])[]) {
  test(`${what} is refused before it is sent`, () => {
    const tx = newTransaction(schema)
    const problem = problemOf(() => build(tx))
    assert.ok(problem.kind === 'invalid-value')
    assert.match(problem.reason, reason)
    assert.equal(tx.operationCount, 0)
  })
}
