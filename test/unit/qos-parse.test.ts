import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  fieldsMissingDelay,
  formatQos,
  noQos,
  parseQosField,
  type QosField,
  qosFields,
  qosGrammar,
} from '../../src/bridge/qos-parse.js'
import { qdiscOf } from '../../src/bridge/qos-qdisc.js'
import { decodeRootQdisc, encodeQdisc } from '../../src/kernel/netlink/qdisc-message.js'
import { randomFrom } from '../support/random.js'

const accepted: readonly (readonly [QosField, string, number])[] = [
  ['rate', '10mbit', 10e6],
  ['rate', '1.5Mbit', 1.5e6],
  ['rate', '.5gbit', 5e8],
  ['rate', '64KBIT', 64e3],
  ['rate', '1.001kbit', 1e3],
  ['rate', '999.5kbit', 999_496],
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
  ['rate', '0.001kbit', /less than 1kbit/],
  ['rate', '1bit', /not a rate/],
  ['rate', '1001gbit', /more than 1000gbit/],
  ['rate', `${'9'.repeat(1_000_000)}!`, /not a rate/],
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

const numbers = [
  '',
  '0',
  '1',
  '5',
  '50',
  '999',
  '4294967296',
  '.',
  '.5',
  '0.29',
  '12.345678',
  '-',
  '+',
  'e',
  '1e3',
  '0x1',
]
const units = ['', '%', 'kbit', 'mbit', 'GBIT', 's', 'ms', 'us', 'ns']
const noise = ['%%', 'k', 'bit', 'bps', 'usecs', 'h', 'inf', 'nan', ' ', '\0', 'é', '🙂', '\ud800']

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

/** The ranges that tc or the kernel sets, and zero rates. */
const ranges: Readonly<Record<QosField, readonly [number, number]>> = {
  rate: [1e3, 1e12],
  loss: [1e-7, 100],
  delay: [0.5, 64 * 0xffff_ffff + 0.5],
  jitter: [0.5, 0x7fff_ffff + 0.5],
  duplicate: [1e-7, 100],
  corrupt: [1e-7, 100],
  reorder: [1e-7, 100],
}

function isInRange(field: QosField, value: number): boolean {
  const [least, most] = ranges[field]
  return (value === 0 && field !== 'rate') || (value >= least && value <= most)
}

test('ten thousand random texts are read as tc reads them, or refused with a reason', context => {
  const seed = Number(process.env['OVS_BRIDGED_TEST_SEED'] ?? Date.now() % 1_000_000)
  context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
  const next = randomFrom(seed)
  const pick = <T>(from: readonly T[]): T | undefined => from[Math.floor(next() * from.length)]
  let taken = 0
  for (let i = 0; i < 10_000; i++) {
    const field = pick(qosFields) ?? 'rate'
    const tail = next() < 0.2 ? pick(noise) : ''
    const text = `${pick(numbers)}${next() < 0.3 ? pick(numbers) : ''}${pick(units)}${tail}`
    const result = parseQosField(field, text)
    const expected = text === '' ? 0 : asTc(field, text)
    const what = `${field} ${JSON.stringify(text)}`
    assert.equal(result.ok, text === '' || (expected !== undefined && isInRange(field, expected)), what)
    if (!result.ok) {
      assert.match(result.reason, /^is .+(not|less|more)/s, what)
      continue
    }
    taken++
    // tc cuts a rate off to whole bytes a second.
    const most = field === 'rate' ? 8 : 1
    assert(Math.abs(result.value - (expected ?? 0)) <= most, `${what}: ${result.value}, not ${expected}`)
    if (field === 'rate') assert.equal(result.value % 8, 0, what)
    comesBack(field, result.value)
  }
  assert(taken > 500, `${taken} were taken`)
})

/** What was taken is the same after the way to OVSDB and back, and after that to the kernel and back. */
function comesBack(field: QosField, value: number): void {
  if (value === 0) return
  const qos = { ...noQos, delayNs: 1, [qosGrammar[field].key]: value }
  assert.deepEqual(parseQosField(field, formatQos(qos)[field] ?? ''), { ok: true, value }, `${field} ${value}`)
  const spec = qdiscOf(qos, 1500)
  assert(spec !== undefined)
  assert.deepEqual(decodeRootQdisc(encodeQdisc(1, spec))?.qdisc.spec, spec, `${field} ${value}`)
}
