import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  fieldsMissingDelay,
  formatQos,
  noQos,
  parseQosField,
  type QosField,
  qosFields,
} from '../../src/bridge/qos-parse.js'

const accepted: readonly (readonly [QosField, string, number])[] = [
  ['rate', '10mbit', 10e6],
  ['rate', '1.5Mbit', 1.5e6],
  ['rate', '.5gbit', 5e8],
  ['rate', '64KBIT', 64e3],
  ['rate', '1000gbit', 1e12],
  ['rate', '', 0],
  ['loss', '0.5', 0.5],
  ['loss', '0.50%', 0.5],
  ['loss', '100', 100],
  ['loss', '0', 0],
  ['loss', '', 0],
  ['delay', '50', 50e6],
  ['delay', '50ms', 50e6],
  ['delay', '0.29ms', 290e3],
  ['delay', '200us', 200e3],
  ['delay', '1.5s', 1.5e9],
  ['delay', '7ns', 7],
  ['delay', '274s', 274e9],
  ['jitter', '2s', 2e9],
]
for (const [field, text, value] of accepted) {
  test(`${field} ${JSON.stringify(text)} is ${value}`, () => {
    assert.deepEqual(parseQosField(field, text), { ok: true, value })
  })
}

const refused: readonly (readonly [QosField, string, RegExp])[] = [
  ['rate', '10', /not a rate/],
  ['rate', '10 mbit', /not a rate/],
  ['rate', '10mbps', /not a rate/],
  ['rate', '1e3kbit', /not a rate/],
  ['rate', '-1mbit', /not a rate/],
  ['rate', '0mbit', /less than 1kbit/],
  ['rate', '1001gbit', /more than 1000gbit/],
  ['rate', `${'9'.repeat(400)}gbit`, /more than 1000gbit/],
  ['loss', '100.0000001', /more than 100%/],
  ['loss', '0.00000001', /less than/],
  ['loss', '-1', /not a percentage/],
  ['loss', '1%%', /not a percentage/],
  ['loss', 'NaN', /not a percentage/],
  ['delay', '275s', /more than netem's 274/],
  ['delay', '1h', /not a time/],
  ['delay', '-5ms', /not a time/],
  ['delay', '0.1ns', /less than 1ns/],
  ['jitter', '2.2s', /more than netem's 2147483647ns/],
]
for (const [field, text, reason] of refused) {
  test(`${field} ${JSON.stringify(text.slice(0, 20))} is refused`, () => {
    const result = parseQosField(field, text)
    assert(!result.ok)
    assert.match(result.reason, reason)
  })
}

test('jitter and reordering make sense only beside a delay', () => {
  const alone = { ...noQos, jitterNs: 1, reorderPercent: 1, lossPercent: 1 }
  assert.deepEqual(fieldsMissingDelay(alone), ['jitter', 'reorder'])
  assert.deepEqual(fieldsMissingDelay({ ...alone, delayNs: 1 }), [])
})

/** Numbers that repeat from run to run (a linear congruential generator). */
function random(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

const pieces = ['', '0', '1', '5', '50', '999', '4294967296', '.', '.5', '-', '+', 'e', ' ', '%', '%%', 'k', 'kbit']
const units = ['mbit', 'GBIT', 'bit', 'bps', 's', 'ms', 'us', 'ns', 'usecs', 'h', 'inf', 'nan', '0x1', '\0', 'é', '🙂']

/** What tc reads (strtod, then a suffix without regard to case), in our units; undefined: nothing. */
function asTc(field: QosField, text: string): number | undefined {
  const [, digits = '', suffix = ''] = /^([0-9]*\.?[0-9]*)(.*)$/s.exec(text) ?? []
  if (!/[0-9]/.test(digits)) return undefined
  const unit = suffix.toLowerCase()
  const scales: Record<string, number> =
    field === 'rate'
      ? { kbit: 1e3, mbit: 1e6, gbit: 1e9 }
      : field === 'delay' || field === 'jitter'
        ? { '': 1e6, ns: 1, us: 1e3, ms: 1e6, s: 1e9 }
        : { '': 1, '%': 1 }
  const scale = scales[unit]
  return scale === undefined ? undefined : Number(digits) * scale
}

test('ten thousand random texts are read as tc reads them, or refused with a reason', () => {
  const next = random(1)
  const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(next() * from.length)]
  let taken = 0
  for (let i = 0; i < 10_000; i++) {
    const field = pick(qosFields) ?? 'rate'
    const text = Array.from({ length: 1 + Math.floor(next() * 3) }, () => pick(pick([pieces, units]) ?? [])).join('')
    const result = parseQosField(field, text)
    if (!result.ok) {
      assert.match(result.reason, /^is .+(not|less|more)/s, `${field} ${JSON.stringify(text)}`)
      continue
    }
    if (text === '') continue
    taken++
    const expected = asTc(field, text)
    assert(expected !== undefined, `${field} ${JSON.stringify(text)} was taken`)
    assert(Math.abs(result.value - expected) <= 1, `${field} ${JSON.stringify(text)}: ${result.value}, not ${expected}`)
    const words = formatQos({ ...noQos, delayNs: 1, ...keyed(field, result.value) })[field]
    if (result.value > 0) assert.deepEqual(parseQosField(field, words ?? ''), result, `${field} ${words}`)
  }
  assert(taken > 500, `${taken} were taken`)
})

function keyed(field: QosField, value: number): object {
  const keys = { rate: 'bitsPerSecond', delay: 'delayNs', jitter: 'jitterNs' } as const
  return { [field in keys ? keys[field as keyof typeof keys] : `${field}Percent`]: value }
}
