import assert from 'node:assert/strict'
import { test } from 'node:test'
import { wholeRecords } from '../../src/capture/pcap-records.js'
import { packetsOf, sectionOf, statisticsOf } from '../../src/capture/pcapng.js'

// Both formats are of the machine's byte order; the bytes here are of a little-endian one.

/** A record of a pcap file. */
function record(seconds: number, nanoseconds: number, data: string, originalBytes = data.length / 2): Buffer {
  const header = Buffer.alloc(16)
  header.writeUInt32LE(seconds, 0)
  header.writeUInt32LE(nanoseconds, 4)
  header.writeUInt32LE(data.length / 2, 8)
  header.writeUInt32LE(originalBytes, 12)
  return Buffer.concat([header, Buffer.from(data, 'hex')])
}

/** Hexadecimal without the spaces between the fields. */
function compact(hex: string): string {
  return hex.replaceAll(' ', '')
}

test('whole records are counted, a torn one is not', () => {
  const two = Buffer.concat([record(1, 2, 'aabb'), record(3, 4, '')])
  assert.deepEqual(wholeRecords(Buffer.alloc(0)), { packets: 0, bytes: 0 })
  assert.deepEqual(wholeRecords(two), { packets: 2, bytes: two.length })
  for (let cut = 1; cut < 16; cut++) assert.equal(wholeRecords(two.subarray(0, two.length - cut)).packets, 1)
  assert.deepEqual(wholeRecords(two.subarray(0, 17)), { packets: 0, bytes: 0 })
})

test('a packet becomes an enhanced packet block, padded, with what was lost before it', () => {
  const records = Buffer.concat([record(1, 500, 'aabbcc', 60), record(2, 0, 'aabbccdd')])
  const first = compact('06000000 34000000 01000000 00000000f4cb9a3b 03000000 3c000000 aabbcc00')
  const lost = compact('04000800 0700000000000000 00000000 34000000')
  const second = compact('06000000 24000000 01000000 0000000000943577 04000000 04000000 aabbccdd 24000000')
  assert.equal(packetsOf(1, records, 7).toString('hex'), first + lost + second)
  assert.equal(packetsOf(1, records.subarray(19), 0).toString('hex'), second)
  assert.equal(packetsOf(1, Buffer.alloc(0), 0).length, 0)
})

test('a stream begins with a section and an interface for each source', () => {
  const source = { device: 'one', name: 'one', comment: 'a tap', filter: 'ip', snapLenBytes: 1_600, inboundOnly: false }
  const section = sectionOf([source, { ...source, filter: '' }], 'test')
  const sectionHeader = compact(
    '0a0d0d0a 28000000 4d3c2b1a 01000000 ffffffffffffffff 0400040074657374 00000000 28000000',
  )
  const head = compact('01000000 3c000000 01000000 40060000')
  const named = compact('020003006f6e6500 010005006120746170000000 0900010009000000')
  const filter = '0b00030000697000'
  assert.equal(section.toString('hex').slice(0, 80), sectionHeader)
  assert.equal(section.toString('hex').slice(80, 200), `${head}${named}${filter}000000003c000000`)
  assert.equal(section.length, 40 + 60 + 52)
})

test('statistics tell what was lost until then', () => {
  const hex = statisticsOf(2, (1n << 32n) + 5n, 9).toString('hex')
  assert.equal(hex, compact('05000000 28000000 02000000 0100000005000000 05000800 0900000000000000 00000000 28000000'))
})
