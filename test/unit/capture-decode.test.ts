import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeFrame } from '../../src/capture/decode.js'
import { addressBytes } from '../support/address.js'
import { arp, dhcp, ethernet, ndp } from '../support/address-frames.js'

const source = '02:00:00:00:00:01'
const other = '02:00:00:00:00:02'
const claim = { kind: 'claim', protocol: 'arp', ip: '10.0.0.1', mac: source } as const
const neighbour = { kind: 'claim', protocol: 'ndp', ip: 'fd00::1', mac: other } as const

const requests = { source, type: 3, transaction: 0x12345678, client: other } as const
const fromRouter = { source, type: 'solicitation', from: 'fd00::1', target: 'fd00::2', mac: other } as const

/** A frame with some of its bytes replaced. */
function changed(frame: Buffer, at: number, ...bytes: readonly number[]): Buffer {
  const copy = Buffer.from(frame)
  copy.set(bytes, at)
  return copy
}

const untagged = arp({ source, ip: '10.0.0.1' })
const advertisement = ndp({ ...fromRouter, type: 'advertisement', target: 'fd00::1' })
const lease = dhcp({ ...requests, type: 5, ip: '10.0.0.1' })

for (const [name, frame, message] of [
  ['a gratuitous request', untagged, claim],
  ['a request', arp({ source, ip: '10.0.0.1', target: '10.0.0.2' }), claim],
  ['a reply', arp({ source, ip: '10.0.0.1', opcode: 2, target: '10.0.0.2' }), claim],
  ["an ARP packet in another's frame", arp({ source: other, mac: source, ip: '10.0.0.1' }), claim],
  ['a probe', arp({ source, ip: '0.0.0.0', target: '10.0.0.1' }), undefined],
  ['a reverse request', arp({ source, ip: '10.0.0.1', opcode: 3 }), undefined],
  ['an ARP packet of other hardware', changed(untagged, 15, 6), undefined],
  ['an ARP packet of another protocol', changed(untagged, 16, 0x86, 0xdd), undefined],
  ['an ARP packet that is cut', untagged.subarray(0, 41), undefined],

  ['a solicitation', ndp(fromRouter), neighbour],
  [
    'a solicitation without its address',
    ndp({ source, type: 'solicitation', from: 'fd00::1', target: 'fd00::2' }),
    { ...neighbour, mac: source },
  ],
  [
    'a solicitation from nobody',
    ndp({ source, type: 'solicitation', from: '::', target: 'fd00::1' }),
    { kind: 'probe', ip: 'fd00::1', mac: source },
  ],
  ['an advertisement', advertisement, neighbour],
  [
    'an advertisement without its address',
    ndp({ source, type: 'advertisement', from: 'fd00::9', target: 'fd00::1' }),
    { ...neighbour, mac: source },
  ],
  [
    'an advertisement that came through a router',
    ndp({ ...fromRouter, type: 'advertisement', hopLimit: 254 }),
    undefined,
  ],
  ['an advertisement with a code', changed(advertisement, 55, 1), undefined],
  ['a router advertisement', changed(advertisement, 54, 134), undefined],
  ['an advertisement that is cut', advertisement.subarray(0, 70), undefined],
  ['an advertisement whose packet is shorter', changed(advertisement, 18, 0, 20), undefined],
  ['an option without a length', changed(changed(advertisement, 78, 5), 79, 0), { ...neighbour, mac: source }],

  ['a DHCP request', dhcp(requests), { kind: 'request', mac: other, transaction: 0x12345678 }],
  ['a DHCP discover', dhcp({ ...requests, type: 1 }), { kind: 'request', mac: other, transaction: 0x12345678 }],
  ['a DHCP acknowledgement', lease, { kind: 'lease', ip: '10.0.0.1', mac: other, transaction: 0x12345678 }],
  ['a DHCP acknowledgement without an address', dhcp({ ...requests, type: 5 }), undefined],
  ['a DHCP offer', dhcp({ ...requests, type: 2, ip: '10.0.0.1' }), undefined],
  ['a DHCP refusal', dhcp({ ...requests, type: 6, ip: '10.0.0.1' }), undefined],
  ['a DHCP acknowledgement from a client', changed(lease, 34, 0, 68, 0, 67), undefined],
  ['a fragment of one', changed(lease, 20, 0, 1), undefined],
  ['one without the cookie', changed(lease, 14 + 28 + 236, 0), undefined],
  ['one that is cut', lease.subarray(0, 14 + 28 + 240), undefined],
  [
    'IP options before it',
    withIpOptions(lease),
    { kind: 'lease', ip: '10.0.0.1', mac: other, transaction: 0x12345678 },
  ],

  ['another protocol', ethernet({ source }, 0x88b5, Buffer.alloc(50)), undefined],
  ['a frame that ends in its header', untagged.subarray(0, 13), undefined],
] as const) {
  test(`${name} says ${message === undefined ? 'nothing' : JSON.stringify(message)}`, () => {
    assert.deepEqual(decodeFrame(frame, undefined)?.message, message)
  })
}

for (const [name, tags, strippedTci, vlan] of [
  ['no tag', [], undefined, undefined],
  ['a tag', [20], undefined, 20],
  ['a tag that the kernel has taken out', [], 20, 20],
  ['two tags', [20, 30], undefined, 20],
  ['two tags of which the kernel has taken one out', [30], 20, 20],
  ['a tag for its priority alone', [], 0xe000, undefined],
  ['a tag with a priority', [0xe000 | 20], undefined, 20],
  ['a priority tag around another', [0xe000, 30], undefined, 30],
] as const) {
  test(`a frame with ${name} is ${vlan === undefined ? 'untagged' : `in VLAN ${vlan}`}`, () => {
    const decoded = decodeFrame(arp({ source, ip: '10.0.0.1', tags }), strippedTci)
    assert.deepEqual(decoded, { vlan, message: claim })
  })
}

for (const [address, canonical] of [
  ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
  ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
  ['2001:db8:0:0:0:0:0:0', '2001:db8::'],
  ['0:0:0:0:0:0:0:1', '::1'],
  ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
  ['abcd:ef01:2345:6789:abcd:ef01:2345:6789', 'abcd:ef01:2345:6789:abcd:ef01:2345:6789'],
] as const) {
  test(`${address} is written ${canonical}`, () => {
    const decoded = decodeFrame(ndp({ source, type: 'advertisement', from: 'fe80::1', target: address }), undefined)
    assert.deepEqual(decoded?.message, { kind: 'claim', protocol: 'ndp', ip: canonical, mac: source })
  })
}

test('no frame is too damaged to be read', () => {
  for (const frame of [untagged, advertisement, lease]) {
    for (let length = 0; length < frame.length; length++) decodeFrame(frame.subarray(0, length), undefined)
    for (let at = 12; at < frame.length; at++) {
      for (const octet of [0, 1, 0x7f, 0xff]) decodeFrame(changed(frame, at, octet), undefined)
    }
  }
})

/** The same datagram behind an IP header of 24 bytes. */
function withIpOptions(frame: Buffer): Buffer {
  const header = changed(frame.subarray(0, 34), 14, 0x46)
  return Buffer.concat([header, Buffer.from([1, 1, 1, 0]), frame.subarray(34)])
}

test('the frames of these tests are whole', () => {
  assert.equal(addressBytes('fd00::1').length, 16)
  assert.deepEqual([untagged.length, advertisement.length], [60, 86])
})
