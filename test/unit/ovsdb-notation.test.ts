import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { schema } from '../../src/gen/vswitch.js'
import { applyDifference, decoderOf, defaultValue, isSameValue, type Value } from '../../src/ovsdb/notation.js'
import { type ColumnSchema, parseSchema } from '../../src/ovsdb/schema.js'

const uuid = '0a1b2c3d-0000-4000-8000-000000000001'
const other = '0a1b2c3d-0000-4000-8000-000000000002'

function column(type: Partial<ColumnSchema>): ColumnSchema {
  return { key: { type: 'string' }, min: 1, max: 1, ephemeral: false, mutable: true, ...type }
}
const many = { min: 0, max: Number.POSITIVE_INFINITY } as const
const optional = column({ min: 0 })
const set = column(many)
const references = column({ key: { type: 'uuid' }, ...many })
const map = column({ value: { type: 'integer' }, ...many })

for (const [what, type, json, value] of [
  ['a string', column({}), 'x', 'x'],
  ['a scalar told as a set of one', column({}), ['set', ['x']], 'x'],
  ['an absent optional', optional, ['set', []], undefined],
  ['a present optional', optional, 'x', 'x'],
  ['a set of one', set, 'x', ['x']],
  ['an empty set', set, ['set', []], []],
  ['a set', set, ['set', ['a', 'b']], ['a', 'b']],
  ['a reference', column({ key: { type: 'uuid' } }), ['uuid', uuid], uuid],
  ['a set of one reference', references, ['uuid', uuid], [uuid]],
  ['a map', map, ['map', [['a', 1]]], new Map([['a', 1]])],
  ['a real that is an integer', column({ key: { type: 'real' } }), 2, 2],
  ['a large integer', column({ key: { type: 'integer' } }), 9007199254740993n, 9007199254740993n],
] as const) {
  test(`${what} is decoded`, () => {
    assert.deepEqual(decoderOf(type)(json), value)
  })
}

for (const [what, type, json] of [
  ['a number for a string', column({}), 1],
  ['a fraction for an integer', column({ key: { type: 'integer' } }), 1.5],
  ['a plain string for a reference', references, uuid],
  ['a reference that is no uuid', references, ['uuid', 'x']],
  ['two elements for a scalar', column({}), ['set', ['a', 'b']]],
  ['a set for a map', map, ['set', []]],
  ['a map with a broken pair', map, ['map', [['a']]]],
] as const) {
  test(`${what} is not taken`, () => {
    assert.throws(() => decoderOf(type)(json), { name: 'OvsdbError' })
  })
}

for (const [what, type, before, difference, after] of [
  ['an element that came', set, ['a'], ['b'], ['a', 'b']],
  ['an element that went', set, ['a', 'b'], ['a'], ['b']],
  ['one that came and one that went', set, ['a', 'b'], ['a', 'c'], ['b', 'c']],
  ['a new scalar', column({}), 'a', 'b', 'b'],
  ['an optional that went', optional, 'a', undefined, undefined],
  [
    'a pair that came',
    map,
    new Map([['a', 1]]),
    new Map([['b', 2]]),
    new Map([
      ['a', 1],
      ['b', 2],
    ]),
  ],
  ['a pair that went', map, new Map([['a', 1]]), new Map([['a', 1]]), new Map()],
  ['a pair that changed', map, new Map([['a', 1]]), new Map([['a', 2]]), new Map([['a', 2]])],
] satisfies readonly (readonly [string, ColumnSchema, Value, Value, Value])[]) {
  test(`${what} is applied as a difference`, () => {
    assert.deepEqual(applyDifference(type, before, difference), after)
  })
}

test('the order of a set or map does not count, its elements do', () => {
  assert.equal(isSameValue(['a', 'b'], ['b', 'a']), true)
  assert.equal(isSameValue(['a', 'b'], ['b', 'c']), false)
  assert.equal(
    isSameValue(
      new Map([
        ['a', 1],
        ['b', 2],
      ]),
      new Map([
        ['b', 2],
        ['a', 1],
      ]),
    ),
    true,
  )
  assert.equal(isSameValue(new Map([['a', 1]]), new Map([['a', 2]])), false)
  assert.equal(isSameValue([uuid], [other]), false)
})

test('a column that is left out takes the default of its type', () => {
  const defaults = [
    column({}),
    optional,
    set,
    map,
    column({ key: { type: 'integer' } }),
    column({ key: { type: 'boolean' } }),
    column({ key: { type: 'string', enum: ['red', 'green'] } }),
    column({ max: 2 }),
    column({ value: { type: 'integer' }, max: Number.POSITIVE_INFINITY }),
  ]
  const expected = ['', undefined, [], new Map(), 0, false, '', [''], new Map([['', 0]])]
  assert.deepEqual(defaults.map(defaultValue), expected)
})

const installed = '/usr/share/openvswitch/vswitch.ovsschema'

test('the generated schema is what the client reads in the file', { skip: !existsSync(installed) }, () => {
  assert.deepEqual(parseSchema(JSON.parse(readFileSync(installed, 'utf8'))), schema)
})
