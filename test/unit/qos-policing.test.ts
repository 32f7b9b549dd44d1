import assert from 'node:assert/strict'
import { endianness } from 'node:os'
import { test } from 'node:test'
import { parsePortName, untagged } from '../../src/bridge/names.js'
import { readTapRecord, writeTapRecord } from '../../src/bridge/ownership-tap.js'
import { maxPolicedKbps, policingColumns } from '../../src/bridge/policing.js'
import { noQos } from '../../src/bridge/qos-parse.js'
import { bytes, encodeAttributes, nested, text, u32 } from '../../src/kernel/netlink/attribute.js'
import { concatenate } from '../../src/kernel/netlink/message.js'
import { decodePolicer, encodeIngressQdisc, ingressDevice } from '../../src/kernel/netlink/policer-message.js'
import { encodeQdiscQuery } from '../../src/kernel/netlink/qdisc-message.js'

const bursts: Readonly<Record<string, readonly [number, number]>> = {
  'no rate has no burst': [0, 0],
  'the slowest has a burst that the kernel can count': [1, 250],
  'a slow one lets 64 KiB through at once': [1_000, 525],
  'a faster one a tenth of a second': [100_000, 10_000],
  'the fastest too': [maxPolicedKbps, maxPolicedKbps / 10],
}
for (const [what, [kbps, burstKb]] of Object.entries(bursts)) {
  test(`policing: ${what}`, () => {
    assert.deepEqual(policingColumns(kbps), { ingress_policing_rate: kbps, ingress_policing_burst: burstKb })
  })
}

/** `struct tcmsg` and a filter with one action. */
function filter(kind: string, actionsType: number, action: string, options: Uint8Array): Uint8Array {
  const act = nested(1, [text(1, action), bytes(2, options)])
  return concatenate(
    new Uint8Array(20),
    encodeAttributes([text(1, kind), nested(2, [u32(1, 7), nested(actionsType, [act])])]),
  )
}

function police(rate: number, rate64?: bigint): Uint8Array {
  const struct = Buffer.alloc(56)
  if (endianness() === 'LE') struct.writeUInt32LE(rate, 28)
  else struct.writeUInt32BE(rate, 28)
  const wide = new BigUint64Array([rate64 ?? 0n])
  return encodeAttributes([bytes(1, struct), ...(rate64 === undefined ? [] : [bytes(8, new Uint8Array(wide.buffer))])])
}

const filters: Readonly<Record<string, readonly [Uint8Array, number | undefined]>> = {
  "Open vSwitch's own": [filter('basic', 3, 'police', police(625_000)), 625_000],
  'one that matches all': [filter('matchall', 2, 'police', police(125)), 125],
  'a rate beyond 32 bits': [filter('basic', 3, 'police', police(0xffff_ffff, 5_000_000_000n)), 5_000_000_000],
  'another action': [filter('basic', 3, 'gact', police(1)), undefined],
  'another classifier': [filter('u32', 3, 'police', police(1)), undefined],
  'an action without options': [filter('basic', 3, 'police', new Uint8Array()), undefined],
}
for (const [what, [payload, bytesPerSecond]] of Object.entries(filters)) {
  test(`a policer is read from a filter: ${what}`, () => {
    assert.deepEqual(decodePolicer(payload), bytesPerSecond === undefined ? undefined : { bytesPerSecond })
  })
}

test('what is about the ingress qdisc is told from what is about the root', () => {
  assert.equal(ingressDevice(encodeIngressQdisc(7)), 7)
  assert.equal(ingressDevice(encodeQdiscQuery(7)), undefined)
})

test('a record keeps what comes from the endpoint, and reads nonsense as none', () => {
  const name = parsePortName('one')
  assert(name.ok)
  const record = {
    ...{ name: name.value, id: 'a', bridge: undefined, vlan: untagged, mac: undefined, mtu: undefined },
    backing: { kind: 'adopted' as const },
    ...{ qinqOuterVlan: undefined, qos: noQos, policedKbps: 5_000, counted: undefined, defunct: false, addresses: [] },
  }
  const ids = writeTapRecord('test', record)
  assert.equal(readTapRecord(ids)?.policedKbps, 5_000)
  for (const nonsense of ['-1', '5e3', 'x', '99999999999']) {
    assert.equal(readTapRecord(new Map(ids).set('ovs-bridged:policed-kbps', nonsense))?.policedKbps, 0, nonsense)
  }
})
