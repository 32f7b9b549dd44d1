import assert from 'node:assert/strict'
import { test } from 'node:test'
import { baseNameOf, parseSnapLen, ringFileName } from '../../src/capture/names.js'
import { type PathBelow, parsePathBelow } from '../../src/lib/safe-file.js'

function named(text: string): PathBelow {
  const name = parsePathBelow(text)
  assert(name.ok, text)
  return name.value
}

test('the files of a ring are numbered before the extension', () => {
  for (const [name, second] of [
    ['trace.pcap', 'trace-00002.pcap'],
    ['lab.1/trace', 'lab.1/trace-00002'],
    ['a.b.pcap', 'a.b-00002.pcap'],
    ['.hidden', '.hidden-00002'],
    ['lab/.x.pcap', 'lab/.x-00002.pcap'],
  ] as const) {
    assert.equal(ringFileName(named(name), 2), second)
  }
  assert.equal(ringFileName(named('x'), 123_456), 'x-123456')
  assert.equal(baseNameOf(named('lab/x')), 'x')
  assert.equal(baseNameOf(named('x')), 'x')
})

test('as many bytes are kept of a packet as libpcap can', () => {
  assert.deepEqual(
    [1, 262_144].map(parseSnapLen).map(({ ok }) => ok),
    [true, true],
  )
  assert.deepEqual(
    [0, 262_145, 1.5].map(parseSnapLen).map(({ ok }) => ok),
    [false, false, false],
  )
})
