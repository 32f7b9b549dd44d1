import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeDatagram, formatFlow, missingBetween } from '../../src/netflow/datagram.js'
import { makeDatagram } from '../support/netflow.js'

const engine = { type: 7, id: 9 }

function decode(bytes: Buffer) {
  const result = decodeDatagram(bytes)
  assert(result.ok, result.ok ? '' : result.reason)
  return result.value
}

/** Laid out as in ofproto/netflow.c of Open vSwitch: three pings, of two seconds. */
const sample = Buffer.from(
  '00050001' +
    '0000c350' + // uptime 50 s
    '65000000' + // 2023-09-12T06:06:56Z
    '1dcd6500' + // and half a second
    '0000002a' +
    '07090000' +
    '0a000001' +
    '0a000002' +
    '00000000' +
    '0003' +
    'fffe' +
    '00000003' +
    '00000126' +
    '0000bb80' + // 48 s
    '0000c350' + // 50 s
    '0000' +
    '0800' +
    '00' +
    '00' +
    '01' +
    '28' +
    '000000000000' +
    '0000',
  'hex',
)

test('a datagram is read byte by byte', () => {
  const sentMs = 0x65000000 * 1_000 + 500
  const { bytes: _, ...datagram } = decode(sample)
  assert.deepEqual(datagram, {
    engine,
    uptimeMs: 50_000,
    firstFlow: 42,
    flows: [
      {
        source: 0x0a000001,
        destination: 0x0a000002,
        sourcePort: 0,
        destinationPort: 2048,
        protocol: 1,
        tos: 0x28,
        tcpFlags: 0,
        input: 3,
        output: 65534,
        packets: 3,
        octets: 294,
        firstMs: sentMs - 2_000,
        lastMs: sentMs,
      },
    ],
  })
})

test('a line has start, duration, protocol, ends, packets and octets', () => {
  const [flow] = decode(sample).flows
  assert.ok(flow)
  assert.equal(formatFlow(flow), '2023-09-12T06:06:54.500Z\t2s\t1\t10.0.0.1:0\t<->\t10.0.0.2:2048\t3\t294\n')
})

test('every field takes its largest value', () => {
  const bytes = Buffer.concat([sample.subarray(0, 24), Buffer.alloc(48, 0xff)])
  const [flow] = decode(bytes).flows
  assert.equal(flow?.packets, 0xffffffff)
  assert.equal(flow?.source, 0xffffffff)
  assert.match(flow === undefined ? '' : formatFlow(flow), /\t255\.255\.255\.255:65535\t4294967295\t4294967295\n$/)
})

test('times hold while the uptime passes 2^32 ms', () => {
  const bytes = Buffer.from(sample)
  bytes.writeUInt32BE(1_000, 4)
  bytes.writeUInt32BE(0xffffffff, 24 + 24)
  bytes.writeUInt32BE(500, 24 + 28)
  const [flow] = decode(bytes).flows
  assert.equal((flow?.lastMs ?? 0) - (flow?.firstMs ?? 0), 501)
})

test('whatever is cut off, too long, of another version or says another count is refused', () => {
  const whole = makeDatagram({ engine, firstFlow: 1, count: 30 })
  assert.equal(decode(whole).flows.length, 30)
  for (let length = 0; length < whole.length; length++) {
    assert.equal(decodeDatagram(whole.subarray(0, length)).ok, false, `${length} bytes`)
  }
  assert.equal(decodeDatagram(Buffer.concat([whole, Buffer.alloc(1)])).ok, false)
  for (const version of [0, 1, 4, 6, 9, 10, 0x0500, 0xffff]) {
    const bytes = Buffer.from(whole)
    bytes.writeUInt16BE(version, 0)
    assert.equal(decodeDatagram(bytes).ok, false, `version ${version}`)
  }
  for (const count of [0, 1, 29, 31, 0xffff]) {
    const bytes = Buffer.from(whole)
    bytes.writeUInt16BE(count, 2)
    assert.equal(decodeDatagram(bytes).ok, false, `count ${count}`)
  }
  assert.equal(decodeDatagram(makeDatagram({ engine, firstFlow: 1, count: 31 })).ok, false)
  assert.equal(decodeDatagram(makeDatagram({ engine, firstFlow: 1, count: 0 })).ok, false)
})

test('a gap in the numbers is counted over their wrap, and a step back is none', () => {
  const cases: readonly (readonly [expected: number, came: number, missing: number])[] = [
    [5, 5, 0],
    [5, 6, 1],
    [5, 105, 100],
    [0xffffffff, 0xffffffff, 0],
    [0xffffffff, 0, 1],
    [0xfffffffe, 3, 5],
    [0, 0x7fffffff, 0x7fffffff],
    [7, 0, 0],
    [0x90000000, 0, 0x70000000],
    [0x70000000, 0, 0],
  ]
  for (const [expected, came, missing] of cases) {
    const former = { firstFlow: (expected - 30) >>> 0, count: 30, uptimeMs: 10_000, atMs: 5_000 }
    const next = { firstFlow: came, count: 1, uptimeMs: 11_000, atMs: 6_000 }
    assert.equal(missingBetween(former, next), missing, `${expected} ${came}`)
  }
})

test('an exporter that begins anew is known by its uptime, whatever its numbers had come to', () => {
  const dayMs = 86_400_000
  const former = { firstFlow: 0x90000000, count: 1, uptimeMs: 40 * dayMs, atMs: dayMs }
  const cases: readonly (readonly [
    what: string,
    uptimeMs: number,
    atMs: number,
    firstFlow: number,
    missing: number,
  ])[] = [
    ['at once', 0, dayMs + 500, 0, 0],
    ['and the first of it are lost', 4_000, dayMs + 5_000, 90, 90],
    ['after a day of silence', 0.5 * dayMs, 2 * dayMs, 3, 3],
    ['not: it has gone on', 40 * dayMs + 500, dayMs + 500, 0x90000002, 1],
    ['not: it was read late', 40 * dayMs + 600_000, dayMs + 1, 0x90000001, 0],
    ['not: its uptime has passed 2^32', (41 * dayMs + 10 * dayMs) % 2 ** 32, 12 * dayMs, 0x90000011, 16],
  ]
  for (const [what, uptimeMs, atMs, firstFlow, missing] of cases) {
    assert.equal(missingBetween(former, { firstFlow, count: 1, uptimeMs, atMs }), missing, what)
  }
  const young = { firstFlow: 0x90000000, count: 1, uptimeMs: 5_000, atMs: 0 }
  assert.equal(missingBetween(young, { firstFlow: 0, count: 1, uptimeMs: 1_000, atMs: 2_000 }), 0)
})
