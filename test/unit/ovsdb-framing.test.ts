import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeJson, newFramer, parseJson } from '../../src/ovsdb/framing.js'
import { isLimit, problemKind } from '../support/ovsdb-problem.js'

const stream = '{"a":"{\\"}\\\\"} {"b":["ü€😀","]"]}\n{"c":[1,[2],{}]}'
const values = [{ a: '{"}\\' }, { b: ['ü€😀', ']'] }, { c: [1, [2], {}] }]

for (const size of [1, 2, 3, 7, 1000]) {
  test(`a stream read ${size} bytes at a time gives the same values`, () => {
    const framer = newFramer()
    const bytes = Buffer.from(stream)
    const read: unknown[] = []
    for (let i = 0; i < bytes.length; i += size) read.push(...framer.push(bytes.subarray(i, i + size)))
    assert.deepEqual(read, values)
  })
}

for (const [what, bytes] of [
  ['bytes between messages', Buffer.from('{}x{}')],
  ['a closing bracket without an opening one', Buffer.from(']')],
  ['brackets that do not match', Buffer.from('{]')],
  ['bytes that are not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
] as const) {
  test(`${what} are a protocol problem`, () => {
    assert.throws(() => newFramer().push(bytes), problemKind('protocol'))
  })
}

test('a message beyond the limit is refused before it is complete', () => {
  const framer = newFramer({ maxMessageBytes: 10, maxNesting: 5 })
  framer.push(Buffer.from('{"a":'))
  assert.throws(() => framer.push(Buffer.from('"123456')), isLimit('maxMessageBytes'))
})

test('a message beyond the limit is refused when it comes whole', () => {
  const framer = newFramer({ maxMessageBytes: 10, maxNesting: 5 })
  assert.deepEqual(framer.push(Buffer.from('{"a":"12"}')), [{ a: '12' }])
  assert.throws(() => framer.push(Buffer.from('{"a":"123"}')), isLimit('maxMessageBytes'))
})

test('brackets within brackets are refused beyond the limit, brackets in strings are not counted', () => {
  const framer = newFramer({ maxMessageBytes: 100, maxNesting: 3 })
  assert.deepEqual(framer.push(Buffer.from('[["[[[[["]][[[]]]')), [[['[[[[[']], [[[]]]])
  assert.throws(() => framer.push(Buffer.from('[[[[')), isLimit('maxNesting'))
})

test('arrays and objects beyond the limit are refused, counted in each message anew', () => {
  const framer = newFramer({ maxBrackets: 2 })
  assert.deepEqual(framer.push(Buffer.from('[{}]["{}[]",[]')), [[{}]])
  assert.deepEqual(framer.push(Buffer.from('] [[]')), [['{}[]', []]])
  assert.throws(() => framer.push(Buffer.from(',[')), isLimit('maxBrackets'))
})

for (const [text, value] of [
  ['9007199254740991', 9007199254740991],
  ['9007199254740993', 9007199254740993n],
  ['-9223372036854775808', -9223372036854775808n],
  ['["9007199254740993",9007199254740993]', ['9007199254740993', 9007199254740993n]],
  [
    '{"a":{"b":[9223372036854775807]},"c":"\\"9007199254740993"}',
    { a: { b: [9223372036854775807n] }, c: '"9007199254740993' },
  ],
  ['0.12345678901234567890', 0.12345678901234568],
  ['1234567890123456789.5', 1234567890123456800],
  ['1234567890123456789e2', 123456789012345680000],
  ['["\\u00009007199254740993",9007199254740993]', ['\u00009007199254740993', 9007199254740993n]],
] as const) {
  test(`${text} is read exactly`, () => {
    assert.deepEqual(parseJson(text), value)
  })
}

test('an integer beyond 2^53 is read exactly wherever it stands', () => {
  for (let before = 0; before < 32; before++) {
    const spaces = ' '.repeat(before)
    assert.equal(parseJson(`${spaces}9007199254740993`), 9007199254740993n, `behind ${before} characters`)
    assert.equal(parseJson(`${spaces}9007199254740993 `), 9007199254740993n, `behind ${before} and before another`)
  }
})

test('a bigint is written as the integer it is', () => {
  assert.equal(
    encodeJson({ a: [9007199254740993n, 'x"', null, true, 1.5] }),
    '{"a":[9007199254740993,"x\\"",null,true,1.5]}',
  )
})
