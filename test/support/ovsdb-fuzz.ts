import assert from 'node:assert/strict'
import { encodeValue } from '../../src/ovsdb/checking.js'
import { OvsdbError } from '../../src/ovsdb/errors.js'
import { encodeJson, newFramer, parseJson } from '../../src/ovsdb/framing.js'
import { isArray, isRecord, type Json } from '../../src/ovsdb/json.js'
import { parseUpdate } from '../../src/ovsdb/monitor.js'
import { applyDifference, decoderOf, isSameValue, type Value } from '../../src/ovsdb/notation.js'
import { LiveReplica } from '../../src/ovsdb/replica.js'
import { Rpc } from '../../src/ovsdb/rpc.js'
import { type ColumnSchema, parseSchema } from '../../src/ovsdb/schema.js'
import { type ModelTables, modelColumns, modelSchema, modelSchemaJson } from './model-database.js'
import { type Choices, choicesFrom } from './random.js'

const uuids = [1, 2, 3].map(n => `0a1b2c3d-0000-4000-8000-00000000000${n}`)
const [first = '', second = '', third = ''] = uuids

/** Messages of all kinds, to be spoilt. */
const samples: readonly string[] = [
  '{"id":1,"result":{},"error":null}',
  '{"id":2,"result":null,"error":{"error":"unknown database","details":"no \\"x\\""}}',
  '{"method":"echo","params":["a",1],"id":"echo"}',
  `{"id":null,"method":"update3","params":["replica","${first}",{"Node":{"${first}":{"insert":{"name":"a","value":9223372036854775807}}}}]}`,
  `{"id":null,"method":"update2","params":["replica",{"Node":{"${first}":{"modify":{"tags":["set",["x","\\u0000"]],"ids":["map",[["k","v"]]]}},"${second}":{"delete":null}}}]}`,
  `{"id":null,"method":"update","params":["replica",{"Node":{"${third}":{"old":{"name":"a"},"new":{"name":"ü€😀","parent":["uuid","${first}"]}}}}]}`,
  '{"method":"monitor_canceled","params":["replica"],"id":null}',
  '{"method":"locked","params":["l"],"id":null}',
  JSON.stringify({ id: 3, result: modelSchemaJson, error: null }),
]
const tokens = [
  '{',
  '}',
  '[',
  ']',
  '"',
  '\\',
  ',',
  ':',
  'null',
  '-',
  '9007199254740993',
  '1e400',
  '"__proto__"',
  '["set",[]]',
  '\\u0000',
  '\ud83d',
]

/** Throws for the input that shows a defect, with the input in its message. Resolves to what the inputs came to. */
export function fuzz(inputs: number, seed: number): { readonly taken: number; readonly refused: number } {
  const random = choicesFrom(seed)
  const counts = { taken: 0, refused: 0 }
  for (let i = 0; i < inputs; i++) {
    const bytes = i % 2 === 0 ? spoilt(random) : undefined
    try {
      const isTaken = bytes === undefined ? checkNotation(random) : checkStream(bytes, random)
      counts[isTaken ? 'taken' : 'refused']++
    } catch (cause) {
      const input = bytes === undefined ? 'a value' : JSON.stringify(bytes.toString('latin1'))
      throw new Error(`seed ${seed}, input ${i}: ${input}`, { cause })
    }
  }
  return counts
}

function spoilt(random: Choices): Buffer {
  let bytes = Buffer.from(random.pick(samples))
  if (random.chance(0.3)) bytes = Buffer.concat([bytes, Buffer.from(random.pick(samples))])
  for (let edits = random.below(4); edits > 0; edits--) {
    const at = random.below(bytes.length + 1)
    const to = Math.min(at + random.below(random.chance(0.1) ? bytes.length : 4), bytes.length)
    const between = random.chance(0.5) ? Buffer.from(random.pick(tokens)) : Buffer.from([random.below(256)])
    bytes = Buffer.concat([bytes.subarray(0, at), between, bytes.subarray(to)])
  }
  return bytes
}

/** What the bytes come to, whole and in pieces; both must be the same. True when no byte was refused. */
export function checkStream(bytes: Buffer, random: Choices = choicesFrom(1)): boolean {
  const whole = framed([bytes])
  const pieces: Buffer[] = []
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + random.below(12)
    pieces.push(bytes.subarray(at, at + size))
    at += size
  }
  const inPieces = framed(pieces)
  assert.equal(inPieces.problem, whole.problem)
  // A message that is whole is given before the piece with the bad byte is looked at.
  assert.deepEqual(inPieces.values.slice(0, whole.values.length), whole.values)
  for (const value of inPieces.values) checkMessage(value)
  return whole.problem === undefined
}

function framed(pieces: readonly Buffer[]): { values: unknown[]; problem: string | undefined } {
  const framer = newFramer({ maxMessageBytes: 4096, maxNesting: 16 })
  const values: unknown[] = []
  for (const piece of pieces) {
    const problem = refusalOf(() => void values.push(...framer.push(piece)))
    if (problem !== undefined) return { values, problem }
  }
  return { values, problem: undefined }
}

/** The problem's kind; anything but an {@link OvsdbError} is a defect. */
function refusalOf(run: () => void): string | undefined {
  try {
    run()
    return undefined
  } catch (error) {
    if (error instanceof OvsdbError) return error.problem.kind
    throw error
  }
}

function checkMessage(message: unknown): void {
  const text = encodeJson(message as Json)
  // 1e400 is infinite to JavaScript and -0 is written as 0; where they are read as values, one is refused and the other is 0.
  // A real beyond 2^53 is written without a fraction, and is a bigint until it is read as a value.
  if (!JSON.stringify(message, markOdd).includes('odd number'))
    assert.deepEqual(parseJson(text), message, 'what was read is written and read again')
  const rpc = new Rpc(
    sent => void encodeJson(sent),
    ({ method, params }) => checkUpdate(method, params),
    8,
  )
  rpc.request('get_schema', ['Model'], parseSchema).catch(() => undefined)
  refusalOf(() => rpc.receive(message))
  const result = isRecord(message) ? message['result'] : undefined
  refusalOf(() => void parseSchema(result))
}

function markOdd(_: string, value: unknown): unknown {
  if (typeof value === 'bigint') return String(value)
  if (typeof value !== 'number') return value
  const isBeyondIntegers = Math.abs(value) > Number.MAX_SAFE_INTEGER
  return isBeyondIntegers || Object.is(value, -0) ? 'odd number' : value
}

/** An update is taken as a whole, or nothing changes; the indexes agree with the rows either way. */
function checkUpdate(method: string, params: readonly unknown[]): void {
  const replica = new LiveReplica<ModelTables>(modelSchema, new Map(Object.entries(modelColumns)), 8)
  const start = { [first]: { initial: { name: 'a' } }, [second]: { initial: { name: 'b', parent: ['uuid', first] } } }
  replica.load(parseUpdate('update2', ['replica', { Node: start }])?.updates ?? [])
  const before = [...replica.rows('Node')]
  const problem = refusalOf(() => {
    const update = parseUpdate(method, params)
    if (update !== undefined) replica.apply(update.updates)
  })
  const after = [...replica.rows('Node')]
  if (problem !== undefined) assert.deepEqual(after, before)
  for (const uuid of uuids) {
    const expected = after.filter(row => row.parent === uuid).map(row => row._uuid)
    const target = after.find(row => row._uuid === uuid)
    if (target !== undefined) {
      const found = [...replica.referrers('Node', 'parent', target._uuid)].map(row => row._uuid)
      assert.deepEqual(found.sort(), expected.sort())
    }
  }
}

const integers = [0, 1, -1, 2 ** 53 - 1, -(2n ** 63n), 2n ** 63n - 1n, 9007199254740993n]
const strings = ['', 'a', 'set', 'ü€😀', '"\\', '__proto__', '9007199254740993', '\u0001\u2028']
const atomTypes = ['integer', 'real', 'boolean', 'string', 'uuid'] as const

/**
 * A random value of a random column goes to the wire and back; a random difference between two is applied; random JSON
 * is read or refused.
 */
function checkNotation(random: Choices): boolean {
  const column = randomColumn(random)
  const place = { table: 'T', column: 'c', isInserted: () => false }
  const decode = decoderOf(column)
  const [a, b] = [randomValue(random, column), randomValue(random, column)]
  for (const value of [a, b]) {
    const read = decode(parseJson(encodeJson(encodeValue(place, column, value))))
    assert.deepEqual(read, value)
  }
  assert.ok(isSameValue(applyDifference(column, a, differenceOf(a, b)), b))
  const json = randomJson(random, 3)
  return refusalOf(() => void decode(json)) === undefined
}

function randomColumn(random: Choices): ColumnSchema {
  const key = { type: random.pick(atomTypes) }
  const isMap = random.chance(0.3)
  const max = isMap || random.chance(0.5) ? Number.POSITIVE_INFINITY : 1
  const value = isMap ? { value: { type: random.pick(atomTypes) } } : {}
  return { key, ...value, min: random.chance(0.5) || isMap ? 0 : 1, max, ephemeral: false, mutable: true }
}

function randomAtom(random: Choices, type: string): string | number | bigint | boolean {
  switch (type) {
    case 'integer':
      return random.pick(integers)
    case 'real':
      return random.pick([0, 1.5, -2.25e-10, 1e300])
    case 'boolean':
      return random.chance(0.5)
    case 'uuid':
      return random.pick(uuids)
    default:
      return random.pick(strings)
  }
}

function randomValue(random: Choices, { key, value, min, max }: ColumnSchema): Value {
  if (max === 1) return min === 0 && random.chance(0.3) ? undefined : randomAtom(random, key.type)
  const keys = new Set(Array.from({ length: min + random.below(4) }, () => randomAtom(random, key.type)))
  if (value === undefined) return [...keys]
  return new Map([...keys].map(k => [k, randomAtom(random, value.type)]))
}

/** What an `update2` would tell, by its definition alone. */
function differenceOf(a: Value, b: Value): Value {
  if (a instanceof Map && b instanceof Map) {
    const gone = [...a].filter(([k]) => !b.has(k))
    return new Map([...gone, ...[...b].filter(([k, v]) => a.get(k) !== v)])
  }
  if (!isArray(a) || !isArray(b)) return b
  return [...a.filter(atom => !b.includes(atom)), ...b.filter(atom => !a.includes(atom))] as Value
}

function randomJson(random: Choices, depth: number): unknown {
  const atom = random.pick([
    null,
    true,
    0,
    1.5,
    Number.POSITIVE_INFINITY,
    9007199254740993n,
    2 ** 60,
    '',
    'a',
    ['uuid', first],
    ['set', []],
    ['map', []],
    {},
  ])
  if (depth === 0 || random.chance(0.4)) return atom
  const parts = Array.from({ length: random.below(4) }, () => randomJson(random, depth - 1))
  return random.pick([
    ['set', parts],
    ['map', parts],
    ['uuid', ...parts],
    parts,
    Object.fromEntries(parts.map((part, i) => [`${i}`, part])),
  ])
}
