import assert from 'node:assert/strict'
import { endianness } from 'node:os'
import { test } from 'node:test'
import {
  type Attribute,
  bytes,
  decodeAttributes,
  encodeAttributes,
  nested,
  readNested,
  readText,
  readU8,
  readU32,
  text,
  u8,
  u32,
} from '../../src/kernel/netlink/attribute.js'
import { decodeLink, encodeLinkChange, encodeVeth, type LinkSettings } from '../../src/kernel/netlink/link-message.js'
import {
  concatenate,
  decodeAcknowledgement,
  decodeMessages,
  encodeMessage,
  type NetlinkMessage,
} from '../../src/kernel/netlink/message.js'

// The bytes below are those of a little-endian host.
const skip = endianness() !== 'LE'

function hex(value: Uint8Array): string {
  return Buffer.from(value).toString('hex')
}

function unhex(value: string): Uint8Array {
  return Uint8Array.from(Buffer.from(value.replaceAll(' ', ''), 'hex'))
}

const attributeTable: [string, Attribute[], string][] = [
  ['an octet, padded', [u8(8, 1)], '0500 0800 01000000'],
  ['four octets', [u32(4, 1400)], '0800 0400 78050000'],
  ['a string with its NUL', [text(3, 'tap0')], '0900 0300 74617030 00000000'],
  ['bytes as they are', [bytes(20, unhex('616263'))], '0700 1400 61626300'],
  ['no bytes at all', [bytes(20, new Uint8Array())], '0400 1400'],
  ['a nest, flagged', [nested(18, [u8(1, 2)])], '0c00 1280 0500 0100 02000000'],
  ['one after the other', [u8(1, 1), u8(2, 2)], '0500 0100 01000000 0500 0200 02000000'],
]
for (const [what, attributes, wire] of attributeTable) {
  test(`attributes: ${what}`, { skip }, () => {
    assert.equal(hex(encodeAttributes(attributes)), wire.replaceAll(' ', ''))
  })
}

test('attributes are read back by type', () => {
  const read = decodeAttributes(encodeAttributes([u8(1, 7), u32(3, 4e9), text(4, 'für'), nested(5, [u32(1, 9)])]))
  assert.deepEqual([readU8(read, 1), readU32(read, 3), readText(read, 4)], [7, 4e9, 'für'])
  assert.equal(readU32(readNested(read, 5), 1), 9)
})

test('an attribute that is not there reads as undefined, a nest as empty', () => {
  const none = decodeAttributes(new Uint8Array())
  assert.deepEqual([readU8(none, 1), readU32(none, 1), readText(none, 1)], Array(3).fill(undefined))
  assert.equal(readNested(none, 1).size, 0)
})

for (const [what, wire] of [
  ['shorter than its header', '0300 0100'],
  ['longer than what is left', '0900 0100 01000000'],
] as const) {
  test(`an attribute ${what} is refused`, { skip }, () => {
    assert.throws(() => decodeAttributes(unhex(wire)), RangeError)
  })
}

test('a message bears its header and its padding', { skip }, () => {
  const wire = encodeMessage({ type: 16, flags: 0x605, sequence: 7, portId: 9, payload: Uint8Array.of(1, 2, 3) })
  assert.equal(hex(wire), '1300000010000506070000000900000001020300')
})

test('a datagram of several messages is taken apart', () => {
  const one: NetlinkMessage = { type: 16, flags: 2, sequence: 1, portId: 0, payload: Uint8Array.of(1, 2, 3) }
  const two: NetlinkMessage = { type: 3, flags: 2, sequence: 1, portId: 0, payload: new Uint8Array() }
  assert.deepEqual(decodeMessages(Buffer.concat([encodeMessage(one), encodeMessage(two)])).map(plain), [one, two])
})

test('a message that was cut off is refused', () => {
  const wire = encodeMessage({ type: 16, flags: 0, sequence: 1, portId: 0, payload: new Uint8Array(100) })
  assert.throws(() => decodeMessages(wire.subarray(0, 90)), RangeError)
})

function plain(message: NetlinkMessage): NetlinkMessage {
  return { ...message, payload: Uint8Array.from(message.payload) }
}

function zeroes(count: number): string {
  return '00'.repeat(count)
}

const acknowledgementTable: [string, number, number, string, { errno: number; text: string }][] = [
  ['consent', 2, 0x100, zeroes(20), { errno: 0, text: '' }],
  ['a bare no', 2, 0, `efffffff 10000000 ${zeroes(12)}`, { errno: 17, text: '' }],
  ['a no in words, capped', 2, 0x300, `eaffffff 20000000 ${zeroes(12)} 07000100 6d747500`, { errno: 22, text: 'mtu' }],
  [
    'a no in words after the whole request',
    2,
    0x200,
    `eaffffff 13000000 ${zeroes(12)} aabbcc00 07000100 6d747500`,
    { errno: 22, text: 'mtu' },
  ],
  ['the end of a dump', 3, 2, '00000000', { errno: 0, text: '' }],
  ['the end of a dump that failed, in words', 3, 0x202, 'f5ffffff 07000100 6d747500', { errno: 11, text: 'mtu' }],
]
for (const [what, type, flags, payload, expected] of acknowledgementTable) {
  test(`acknowledgement: ${what}`, { skip }, () => {
    assert.deepEqual(decodeAcknowledgement({ type, flags, sequence: 1, portId: 0, payload: unhex(payload) }), expected)
  })
}

const changeTable: [string, number, LinkSettings, string][] = [
  ['nothing', 5, {}, '00000000 05000000 00000000 00000000'],
  ['up', 5, { up: true }, '00000000 05000000 01000000 01000000'],
  ['down', 5, { up: false }, '00000000 05000000 00000000 01000000'],
  [
    'promiscuous, by name',
    0,
    { name: 'a', promiscuous: true },
    '00000000 00000000 00010000 00010000 0600 0300 61000000',
  ],
  ['an alias taken away', 5, { alias: '' }, '00000000 05000000 00000000 00000000 0400 1400'],
  [
    'silence without IPv6',
    5,
    { silent: 'ipv4-only' },
    '00000000 05000000 00000000 00000000 1400 1a80 1000 0280 0c00 0180 0800 1300 08000000',
  ],
  [
    'silence',
    5,
    { silent: 'ip' },
    '00000000 05000000 00000000 00000000 2000 1a80 1000 0280 0c00 0180 0800 1300 08000000 0c00 0a80 0500 0800 01000000',
  ],
]
for (const [what, index, settings, wire] of changeTable) {
  test(`a change of a link: ${what}`, { skip }, () => {
    assert.equal(hex(encodeLinkChange(index, settings)), wire.replaceAll(' ', ''))
  })
}

test('a veth names its namespace outside and its near end inside', { skip }, () => {
  const wire = encodeVeth({ name: 'v', mac: '02:00:00:00:00:01', up: true, netnsFd: 9 }, { name: 'h' })
  const attributes = decodeAttributes(wire.subarray(16))
  assert.deepEqual([readText(attributes, 3), readU32(attributes, 28)], ['v', 9])
  const info = readNested(attributes, 18)
  assert.equal(readText(info, 1), 'veth')
  const peer = readNested(info, 2).get(1)
  assert.ok(peer !== undefined)
  assert.equal(readText(decodeAttributes(peer.subarray(16)), 3), 'h')
})

function linkMessage(attributes: Attribute[]): Uint8Array {
  const ifinfomsg = new Uint8Array(16)
  new DataView(ifinfomsg.buffer).setInt32(4, 7, true)
  return concatenate(ifinfomsg, encodeAttributes(attributes))
}

test('counters beyond 2^53 are read exactly, each in its place', { skip }, () => {
  const stats = new Uint8Array(24 * 8)
  const view = new DataView(stats.buffer)
  for (let i = 0; i < 8; i++) view.setBigUint64(i * 8, 2n ** 60n + BigInt(i), true)
  const big = (i: bigint) => 2n ** 60n + i
  assert.deepEqual(decodeLink(linkMessage([bytes(23, stats)])).statistics, {
    rxPackets: big(0n),
    txPackets: big(1n),
    rxBytes: big(2n),
    txBytes: big(3n),
    rxErrors: big(4n),
    txErrors: big(5n),
    rxDropped: big(6n),
    txDropped: big(7n),
  })
})

test('the lower device of a vlan is not taken for a peer', { skip }, () => {
  const info = nested(18, [text(1, 'vlan')])
  assert.equal(decodeLink(linkMessage([u32(5, 3), info])).peerIndex, undefined)
  assert.equal(decodeLink(linkMessage([u32(5, 3), nested(18, [text(1, 'veth')])])).peerIndex, 3)
})

test('a device that is promiscuous for somebody else shows it', { skip }, () => {
  assert.equal(decodeLink(linkMessage([u32(30, 1)])).promiscuous, true)
  assert.equal(decodeLink(linkMessage([u32(30, 0)])).promiscuous, false)
})
