import assert from 'node:assert/strict'
import { test } from 'node:test'
import { schema, type Tables } from '../../src/gen/vswitch.js'
import type { RowUpdate } from '../../src/ovsdb/monitor.js'
import { isUuid, type Uuid } from '../../src/ovsdb/notation.js'
import { LiveReplica } from '../../src/ovsdb/replica.js'

type View = Pick<Tables, 'Bridge' | 'Port' | 'Manager'>
const columns = new Map([
  ['Bridge', ['name', 'ports', 'flow_tables']],
  ['Port', ['name', 'tag']],
  ['Manager', ['target']],
])
const br0 = uuid(1)
const br1 = uuid(2)
const p1 = uuid(3)
const p2 = uuid(4)
const p3 = uuid(5)

function uuid(n: number): Uuid {
  const text = `0a1b2c3d-0000-4000-8000-${String(n).padStart(12, '0')}`
  assert.ok(isUuid(text))
  return text
}

function row(table: string, id: Uuid, values: object): RowUpdate {
  return { table, uuid: id, kind: 'row', row: values }
}

function modify(table: string, id: Uuid, difference: object): RowUpdate {
  return { table, uuid: id, kind: 'modify', difference }
}

function ports(...ids: readonly Uuid[]): object {
  return { ports: ['set', ids.map(id => ['uuid', id])] }
}

function loaded(...dump: readonly RowUpdate[]): LiveReplica<View> {
  const replica = new LiveReplica<View>(schema, columns, maxRows)
  replica.load(dump)
  return replica
}

const maxRows = 4

function referring(replica: LiveReplica<View>, target: Uuid): Uuid[] {
  return [...replica.referrers('Bridge', 'ports', target)].map(bridge => bridge._uuid)
}

test('a row is found by its new name and no longer by its old one', () => {
  const replica = loaded(row('Manager', br0, { target: 'a' }))
  replica.apply([modify('Manager', br0, { target: 'b' })])
  assert.equal(replica.find('Manager', 'target', 'a'), undefined)
  assert.equal(replica.find('Manager', 'target', 'b')?._uuid, br0)
})

test('two rows exchange their names in one update', () => {
  const replica = loaded(row('Manager', br0, { target: 'a' }), row('Manager', br1, { target: 'b' }))
  replica.apply([modify('Manager', br0, { target: 'b' }), modify('Manager', br1, { target: 'a' })])
  assert.equal(replica.find('Manager', 'target', 'a')?._uuid, br1)
  assert.equal(replica.find('Manager', 'target', 'b')?._uuid, br0)
})

for (const [what, before, difference, after] of [
  ['comes at the end', [p1, p2], [p3], [p1, p2, p3]],
  ['goes from the middle', [p1, p2, p3], [p2], [p1, p3]],
  ['goes from the front', [p1, p2, p3], [p1], [p2, p3]],
  ['takes the place of another', [p1, p2], [p1, p3], [p2, p3]],
  ['goes as the last', [p1], [p1], []],
] as const) {
  test(`a reference that ${what} is known at once`, () => {
    const replica = loaded(row('Bridge', br0, ports(...before)))
    replica.apply([modify('Bridge', br0, ports(...difference))])
    const known = [p1, p2, p3].filter(port => referring(replica, port).includes(br0))
    assert.deepEqual(known, after)
  })
}

test('a reference moves from one row to another in one update', () => {
  const replica = loaded(row('Bridge', br0, ports(p1, p2)), row('Bridge', br1, ports(p3)))
  replica.apply([modify('Bridge', br1, ports(p1)), modify('Bridge', br0, ports(p1))])
  assert.deepEqual(referring(replica, p1), [br1])
})

test('several rows refer to one, until each of them goes', () => {
  const replica = loaded(row('Bridge', br0, ports(p1)), row('Bridge', br1, ports(p1)))
  assert.deepEqual(referring(replica, p1), [br0, br1])
  replica.apply([{ table: 'Bridge', uuid: br0, kind: 'delete' }])
  assert.deepEqual(referring(replica, p1), [br1])
  replica.apply([{ table: 'Bridge', uuid: br1, kind: 'delete' }])
  assert.deepEqual(referring(replica, p1), [])
})

test('references in the values of a map are known', () => {
  const replica = loaded(row('Bridge', br0, { flow_tables: ['map', [[0, ['uuid', p1]]]] }))
  replica.apply([modify('Bridge', br0, { flow_tables: ['map', [[0, ['uuid', p2]]]] })])
  assert.deepEqual([...replica.referrers('Bridge', 'flow_tables', p1)], [])
  assert.deepEqual(
    [...replica.referrers('Bridge', 'flow_tables', p2)].map(bridge => bridge._uuid),
    [br0],
  )
})

test('a row that goes refers to nothing', () => {
  const replica = loaded(row('Bridge', br0, ports(p1)))
  replica.apply([{ table: 'Bridge', uuid: br0, kind: 'delete' }])
  assert.deepEqual(referring(replica, p1), [])
})

test('a new dump is told as what came, changed and went, and no more', () => {
  const replica = loaded(
    row('Port', p1, { name: 'a', tag: 1 }),
    row('Port', p2, { name: 'b' }),
    row('Bridge', br0, ports(p1, p2)),
  )
  const changes = replica.load([
    row('Port', p1, { name: 'a', tag: 2 }),
    row('Port', p3, { name: 'c' }),
    row('Bridge', br0, ports(p2, p1)),
  ])
  const told = changes.map(
    change => `${change.kind} ${(change.kind === 'delete' ? change.before : change.after)._uuid}`,
  )
  assert.deepEqual(told, [`modify ${p1}`, `insert ${p3}`, `delete ${p2}`])
})

test('an update that cannot be understood changes nothing', () => {
  const replica = loaded(row('Port', p1, { name: 'a' }))
  assert.throws(() => replica.apply([modify('Port', p1, { tag: 5 }), modify('Port', p2, { tag: 5 })]))
  assert.equal(replica.get('Port', p1)?.tag, undefined)
  assert.equal(replica.revision, 1)
})

test('a row that was read stays as it was', () => {
  const replica = loaded(row('Bridge', br0, ports(p1)))
  const before = replica.get('Bridge', br0)
  replica.apply([modify('Bridge', br0, ports(p2))])
  assert.deepEqual(before?.ports, [p1])
})

test('to find by a column that is no index is a defect', () => {
  assert.throws(() => loaded().find('Port', 'tag', 5), TypeError)
  assert.throws(() => [...loaded().referrers('Port', 'name', p1)], TypeError)
})
