import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Filter, filterProgram, maxDevices } from '../../src/capture/address-filter.js'
import { assemble, at, give, ifEqual } from '../../src/capture/bpf.js'
import { Noise } from '../../src/capture/noise.js'
import { arp, dhcp, ethernet, ndp } from '../support/address-frames.js'
import { type FrameFacts, runFilter } from '../support/bpf.js'

/** <linux/bpf_common.h>: the kernel refuses more instructions. */
const BPF_MAXINSNS = 4096

const source = '02:00:00:00:00:01'
const host = 7
const machine = 9

const said: Filter = { direction: 'from-endpoints', hosts: [host], noisy: [] }
const told: Filter = { direction: 'to-endpoints', hosts: [host], noisy: [] }

const client = { source, transaction: 1, client: source }
const objection = ndp({ source, type: 'advertisement', from: 'fd00::1', target: 'fd00::1' })
const frames = {
  arp: arp({ source, ip: '10.0.0.1' }),
  'tagged arp': arp({ source, ip: '10.0.0.1', tags: [20] }),
  'arp with two tags': arp({ source, ip: '10.0.0.1', tags: [20, 30] }),
  solicitation: ndp({ source, type: 'solicitation', from: 'fd00::1', target: 'fd00::2' }),
  probe: ndp({ source, type: 'solicitation', from: '::', target: 'fd00::1' }),
  objection,
  'advertisement to one': unicast(objection),
  'tagged objection': ndp({ source, type: 'advertisement', from: 'fd00::1', target: 'fd00::1', tags: [20] }),
  'dhcp request': dhcp({ ...client, type: 3 }),
  'dhcp answer': dhcp({ ...client, type: 5, ip: '10.0.0.1' }),
  'tagged dhcp answer': dhcp({ ...client, type: 5, ip: '10.0.0.1', tags: [20] }),
  'fragment of a dhcp answer': fragment(dhcp({ ...client, type: 5, ip: '10.0.0.1' })),
  other: ethernet({ source }, 0x88b5, Buffer.alloc(50)),
  'short frame': Buffer.alloc(12),
} as const

type FrameName = keyof typeof frames

function unicast(frame: Buffer): Buffer {
  const copy = Buffer.from(frame)
  copy[14 + 24] = 0xfd
  return copy
}

function fragment(frame: Buffer): Buffer {
  const copy = Buffer.from(frame)
  copy[21] = 1
  return copy
}

function letsThrough(filter: Filter, frame: Buffer, facts: FrameFacts): boolean {
  return runFilter(filterProgram(filter), frame, facts) > 0
}

for (const [what, filter, expected] of [
  [
    'said',
    said,
    [
      'arp',
      'tagged arp',
      'arp with two tags',
      'solicitation',
      'probe',
      'objection',
      'advertisement to one',
      'tagged objection',
      'dhcp request',
    ],
  ],
  ['told', told, ['probe', 'objection', 'tagged objection', 'dhcp answer', 'tagged dhcp answer']],
] as const satisfies readonly (readonly [string, Filter, readonly FrameName[]])[]) {
  const wanted: readonly FrameName[] = expected
  for (const [name, frame] of Object.entries(frames) as [FrameName, Buffer][]) {
    test(`of what endpoints are ${what} a frame counts if it is one of those wanted: ${name}`, () => {
      const isFrom = what === 'said'
      assert.equal(letsThrough(filter, frame, { device: machine, outgoing: !isFrom }), wanted.includes(name))
      assert.equal(letsThrough(filter, frame, { device: host, outgoing: isFrom }), wanted.includes(name))
      assert.equal(letsThrough(filter, frame, { device: machine, outgoing: isFrom }), false)
      assert.equal(letsThrough(filter, frame, { device: host, outgoing: !isFrom }), false)
    })
  }
}

test('a noisy device is passed over, or alone is counted', () => {
  const noisy = { ...said, noisy: [3, machine] }
  const from = (device: number) => ({ device, outgoing: false })
  assert.equal(letsThrough(noisy, frames.arp, from(machine)), false)
  assert.equal(letsThrough(noisy, frames.arp, from(4)), true)
  assert.equal(letsThrough({ ...noisy, only: true }, frames.arp, from(machine)), true)
  assert.equal(letsThrough({ ...noisy, only: true }, frames.arp, from(4)), false)
  assert.equal(letsThrough({ ...said, only: true }, frames.arp, from(machine)), false)
})

test('a program for thousands of devices is one that the kernel takes', () => {
  const many = Array.from({ length: 5_000 }, (_, index) => index + 100)
  const program = filterProgram({ direction: 'from-endpoints', hosts: many, noisy: many })
  assert.ok(program.length / 8 <= BPF_MAXINSNS, `${program.length / 8} instructions`)
  assert.equal(runFilter(program, frames.arp, { device: 100 + maxDevices - 1, outgoing: true }) > 0, true)
})

test('a conditional jump that is too far is a defect, and so is one to nowhere', () => {
  const far = [ifEqual(1, 'end'), ...Array.from({ length: 256 }, () => give(0)), at('end'), give(1)]
  assert.throws(() => assemble(far), RangeError)
  assert.throws(() => assemble([ifEqual(1, 'nowhere')]), RangeError)
})

test('a device is noisy from the frame on that is beyond its measure, until the window ends', () => {
  const noise = new Noise(2)
  assert.deepEqual([noise.hear(1), noise.hear(1), noise.hear(1), noise.hear(2)], [true, true, false, true])
  assert.deepEqual([...noise.noisy], [1])
  noise.turn()
  assert.deepEqual([[...noise.noisy], noise.hear(1)], [[], true])
})
