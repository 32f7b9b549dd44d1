import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AddressHolders } from '../../src/bridge/address-holders.js'
import {
  formatAddresses,
  learn,
  maxAddresses,
  parseAddresses,
  type SeenAddress,
  seenAfter,
} from '../../src/bridge/address-list.js'
import { AddressWaits } from '../../src/bridge/address-waits.js'
import { parseEndpointIp, parseMacAddress, parseVlanId } from '../../src/bridge/names.js'
import type { Parsed } from '../../src/lib/parsed.js'

function must<T>(result: Parsed<T>): T {
  assert.ok(result.ok)
  return result.value
}

const mac = must(parseMacAddress('02:00:00:00:00:01'))
const otherMac = must(parseMacAddress('02:00:00:00:00:02'))

function seen(ip: string, lastSeenMs: number, more: Partial<SeenAddress> = {}): SeenAddress {
  return { ip: must(parseEndpointIp(ip)), mac, tag: undefined, source: 'arp', lastSeenMs, ...more }
}

const stepMs = 60

/** Addresses and times of a tap that has seen these, one after the other. */
function after(...all: readonly SeenAddress[]): string {
  let addresses: readonly SeenAddress[] = []
  for (const one of all) {
    const learned = learn(addresses, one, stepMs)
    if ('addresses' in learned) addresses = learned.addresses
  }
  return addresses.map(({ ip, lastSeenMs }) => `${ip}@${lastSeenMs}`).join(' ')
}

for (const [name, all, expected] of [
  ['the latest comes first', [seen('10.0.0.1', 0), seen('10.0.0.2', 1)], '10.0.0.2@1 10.0.0.1@0'],
  ['one that is seen again soon is left as it is', [seen('10.0.0.1', 0), seen('10.0.0.1', 59)], '10.0.0.1@0'],
  ['one that is seen again later has its time', [seen('10.0.0.1', 0), seen('10.0.0.1', 60)], '10.0.0.1@60'],
  [
    'one comes first again at once',
    [seen('10.0.0.1', 0), seen('10.0.0.2', 1), seen('10.0.0.1', 2)],
    '10.0.0.1@2 10.0.0.2@1',
  ],
  ['families do not compete', [seen('10.0.0.1', 0), seen('fd00::1', 1), seen('10.0.0.1', 2)], 'fd00::1@1 10.0.0.1@0'],
  [
    'one address under two tags is two',
    [seen('10.0.0.1', 0), seen('10.0.0.1', 1, { tag: must(parseVlanId(20)) })],
    '10.0.0.1@1 10.0.0.1@0',
  ],
] as const) {
  test(`of a tap's addresses ${name}`, () => assert.equal(after(...all), expected))
}

test('another MAC is news, and replaces the former', () => {
  const learned = learn([seen('10.0.0.1', 0)], seen('10.0.0.1', 1, { mac: otherMac, source: 'dhcp' }), stepMs)
  assert.deepEqual(learned, {
    outcome: 'changed',
    addresses: [seen('10.0.0.1', 1, { mac: otherMac, source: 'dhcp' })],
  })
})

test('a tap has no more than so many addresses, and those that it has go on', () => {
  const many = Array.from({ length: maxAddresses }, (_, i) => seen(`10.0.0.${i + 1}`, 0))
  assert.equal(learn(many, seen('10.0.1.1', 1), stepMs).outcome, 'full')
  assert.equal(learn(many, seen('10.0.0.9', 100), stepMs).outcome, 'refreshed')
})

test('one more address takes the place of the oldest when that was not seen for a while', () => {
  const many = Array.from({ length: maxAddresses }, (_, i) => seen(`10.0.0.${i + 1}`, 100 - i))
  const oldestMs = many.at(-1)?.lastSeenMs ?? 0
  assert.equal(learn(many, seen('10.0.1.1', oldestMs + 2 * stepMs - 1), stepMs).outcome, 'full')
  const late = seen('10.0.1.1', oldestMs + 2 * stepMs)
  assert.deepEqual(learn(many, late, stepMs), { outcome: 'replaced', addresses: [late, ...many.slice(0, -1)] })
})

test('what was not seen since is left out', () => {
  const all = [seen('10.0.0.2', 5), seen('10.0.0.1', 3)]
  assert.equal(seenAfter(all, 2), all)
  assert.deepEqual(seenAfter(all, 3), [all[0]])
})

test('addresses are read back as they were written', () => {
  const all = [
    seen('fd00::1', 1_700_000_000_123, { source: 'ndp' }),
    seen('10.0.0.1', 0, { tag: must(parseVlanId(20)), mac: otherMac }),
    seen('10.0.0.2', 7, { source: 'dhcp' }),
  ]
  assert.deepEqual(parseAddresses(formatAddresses(all)), all)
  assert.deepEqual(parseAddresses(''), [])
})

for (const damaged of [
  'fe80::1,02:00:00:00:00:01,,ndp,7',
  '10.0.0.1,nope,,arp,7',
  '10.0.0.1,02:00:00:00:00:01,4096,arp,7',
  '10.0.0.1,02:00:00:00:00:01,,smoke,7',
  '10.0.0.1,02:00:00:00:00:01,,arp,soon',
  '10.0.0.1',
]) {
  test(`what somebody has damaged is left out: ${damaged}`, () => {
    assert.deepEqual(parseAddresses(`${damaged} ${formatAddresses([seen('10.0.0.2', 7)])}`), [seen('10.0.0.2', 7)])
  })
}

for (const [address, isTaken] of [
  ['10.0.0.1', true],
  ['0.0.0.0', false],
  ['0.1.2.3', false],
  ['127.0.0.1', false],
  ['169.254.1.1', false],
  ['169.253.1.1', true],
  ['223.255.255.1', true],
  ['224.0.0.1', false],
  ['255.255.255.255', false],
  ['fd00::1', true],
  ['fec0::1', true],
  ['fe7f::1', true],
  ['ff0::1', true],
  ['::', false],
  ['::1', false],
  ['fe80::1', false],
  ['febf::1', false],
  ['ff02::1', false],
  ['::ffff:10.0.0.1', false],
  ['nope', false],
] as const) {
  test(`${address} ${isTaken ? 'is' : 'is not'} an address to learn`, () => {
    assert.equal(parseEndpointIp(address).ok, isTaken)
  })
}

const ip = must(parseEndpointIp('fd00::1'))

function wanted(tap: string, by = mac) {
  return { tap, ip, mac: by, tag: undefined }
}

function grantedAt(waits: AddressWaits, ms: number): string[] {
  return waits.takeDue(ms).map(({ tap }) => tap)
}

test('a probe that nobody objects to for a second is granted, once', () => {
  const waits = new AddressWaits()
  waits.probe('link', wanted('a'), 0)
  assert.equal(waits.nextDueMs, 1_000)
  assert.deepEqual(grantedAt(waits, 999), [])
  assert.deepEqual(grantedAt(waits, 1_000), ['a'])
  assert.deepEqual([grantedAt(waits, 2_000), waits.nextDueMs], [[], undefined])
})

test('a probe that is repeated is waited for anew', () => {
  const waits = new AddressWaits()
  waits.probe('link', wanted('a'), 0)
  waits.probe('link', wanted('a'), 500)
  assert.deepEqual([grantedAt(waits, 1_000), grantedAt(waits, 1_500)], [[], ['a']])
})

test('an objection counts on the link, and not from the station that probes', () => {
  const waits = new AddressWaits()
  waits.probe('link', wanted('a'), 0)
  waits.object('elsewhere', ip, otherMac)
  waits.object('link', ip, mac)
  waits.object('link', must(parseEndpointIp('fd00::2')), otherMac)
  assert.equal(waits.nextDueMs, 1_000)
  waits.object('link', ip, otherMac)
  assert.deepEqual(grantedAt(waits, 1_000), [])
})

test("an address that two probe for at a time is nobody's", () => {
  const waits = new AddressWaits()
  waits.probe('link', wanted('a'), 0)
  waits.probe('link', wanted('b'), 500)
  assert.deepEqual([grantedAt(waits, 1_000), grantedAt(waits, 1_500)], [[], []])
})

test('a tap has so many probes at a time, and none when it is gone', () => {
  const waits = new AddressWaits()
  for (let i = 1; i <= 20; i++) waits.probe('link', { ...wanted('a'), ip: must(parseEndpointIp(`fd00::${i}`)) }, 0)
  waits.probe('link', wanted('b', otherMac), 0)
  waits.settle('link', { tap: 'b', ip })
  assert.equal(grantedAt(waits, 1_000).length, 16)
  waits.probe('link', wanted('a'), 2_000)
  waits.drop('a')
  assert.deepEqual(grantedAt(waits, 5_000), [])
})

test('a lease is an answer to who has asked for it, for some time', () => {
  const waits = new AddressWaits()
  waits.request('a', mac, 7, 0)
  assert.equal(waits.isAnswer('a', mac, 7, 64_000), true)
  assert.equal(waits.isAnswer('a', mac, 7, 64_001), false)
  assert.equal(waits.isAnswer('a', mac, 8, 1), false)
  assert.equal(waits.isAnswer('a', otherMac, 7, 1), false)
  assert.equal(waits.isAnswer('b', mac, 7, 1), false)
  for (let i = 0; i < 16; i++) waits.request('a', mac, 100 + i, 1)
  assert.equal(waits.isAnswer('a', mac, 7, 2), false)
})

test('the rival of a tap is the latest other that has the same', () => {
  const holders = new AddressHolders()
  holders.set('a', ['ip', 'mac'])
  assert.equal(holders.rivalOf('a', ['ip', 'mac']), undefined)
  holders.set('b', ['ip'])
  holders.set('c', ['mac'])
  assert.deepEqual([holders.rivalOf('a', ['ip', 'mac']), holders.rivalOf('a', ['mac', 'ip'])], ['b', 'c'])
  holders.set('b', [])
  assert.equal(holders.rivalOf('a', ['ip', 'mac']), 'c')
  holders.set('a', ['ip'])
  assert.equal(holders.rivalOf('c', ['ip', 'mac']), 'a')
})
