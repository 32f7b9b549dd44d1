import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseJson } from '../../src/ovsdb/framing.js'
import { decoderOf } from '../../src/ovsdb/notation.js'
import { checkStream, fuzz } from '../support/ovsdb-fuzz.js'
import { seedOfRun } from '../support/random.js'

test('spoilt messages and random values are taken or refused, and never anything else', context => {
  const seed = seedOfRun()
  context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
  const { taken, refused } = fuzz(10_000, seed)
  assert.ok(taken > 500 && refused > 500)
})

for (const input of [
  '{"method":"echo","params":[1e400,1],"id":"echo"}',
  '{"method":"echo","params":[92233720368547758.7],"id":"echo"}',
  '{"id":3,"result":{"name":"M","version":"1","tables":{"N":{"columns":{"c":{"type":{"key":"string","min":-0}}}}}}}',
]) {
  test(`an input that was once found is taken or refused: ${input.slice(0, 40)}…`, () => {
    checkStream(Buffer.from(input))
  })
}

test('a number that no column can hold is refused, and -0 is 0', () => {
  const column = { key: { type: 'real' }, min: 1, max: 1, ephemeral: false, mutable: true } as const
  assert.throws(() => decoderOf(column)(parseJson('1e400')), { name: 'OvsdbError' })
  assert.ok(Object.is(decoderOf(column)(parseJson('-0')), 0))
  assert.ok(Object.is(decoderOf({ ...column, key: { type: 'integer' } })(parseJson('-0')), 0))
})

test('a string of ten million escapes beside a long integer is read', () => {
  const value = parseJson(`["${'\\"'.repeat(1e7)}",9007199254740993]`)
  assert.ok(Array.isArray(value))
  assert.equal(value[1], 9007199254740993n)
  assert.equal(String(value[0]).length, 1e7)
})
