import assert from 'node:assert/strict'
import { test } from 'node:test'
import { affectedTaps, scopeId, tapChange } from '../../src/bridge/events.js'
import { isWithin, type TapScope } from '../../src/bridge/inventory.js'
import { type BridgeName, type PortName, parseBridgeName, parsePortName, parseVlanId } from '../../src/bridge/names.js'
import { monitored, type OvsRows } from '../../src/bridge/ovs.js'
import { isReport } from '../../src/bridge/stats.js'
import { schema } from '../../src/gen/vswitch.js'
import type { Parsed } from '../../src/lib/parsed.js'
import type { Change } from '../../src/ovsdb/index.js'
import type { RowUpdate } from '../../src/ovsdb/monitor.js'
import { isUuid, type Uuid } from '../../src/ovsdb/notation.js'
import { LiveReplica } from '../../src/ovsdb/replica.js'

function uuid(n: number): Uuid {
  const text = `0a1b2c3d-0000-4000-8000-${String(n).padStart(12, '0')}`
  assert.ok(isUuid(text))
  return text
}

function must<T>(result: Parsed<T>): T {
  assert.ok(result.ok)
  return result.value
}

function row(table: string, n: number, values: object): RowUpdate {
  return { table, uuid: uuid(n), kind: 'row', row: values }
}

function map(entries: Readonly<Record<string, string | number>>): unknown {
  return ['map', Object.entries(entries)]
}

/** Two taps, of which `two` is in a bond with `one`, and a port of somebody else's. */
function loaded(): LiveReplica<OvsRows> {
  const replica = new LiveReplica<OvsRows>(schema, new Map(Object.entries(monitored)))
  replica.load([
    row('QoS', 1, { external_ids: map({ 'ovs-bridged:instance': 'mine', 'ovs-bridged:tap': 'one' }) }),
    row('QoS', 2, { external_ids: map({ 'ovs-bridged:instance': 'other', 'ovs-bridged:tap': 'theirs' }) }),
    row('Interface', 3, { name: 'one', mtu: 1500, statistics: map({ rx_bytes: 1 }) }),
    row('Interface', 4, { name: 'two' }),
    row('Port', 5, {
      name: 'bond0',
      interfaces: [
        'set',
        [
          ['uuid', uuid(3)],
          ['uuid', uuid(4)],
        ],
      ],
    }),
  ])
  return replica
}

function affected(replica: LiveReplica<OvsRows>, changes: readonly Change<OvsRows>[]): string[] {
  return [...affectedTaps('mine', changes, replica)].sort()
}

test('a record that changes affects its tap, one of another instance none', () => {
  const replica = loaded()
  const change = (n: number) =>
    replica.apply([row('QoS', n, { external_ids: map({ 'ovs-bridged:instance': 'mine' }) })])
  assert.deepEqual(affected(replica, change(1)), ['one'])
  assert.deepEqual(affected(replica, change(2)), [])
})

test('an interface that changes affects its tap, its counters alone do not', () => {
  const replica = loaded()
  const counted = replica.apply([row('Interface', 3, { name: 'one', mtu: 1500, statistics: map({ rx_bytes: 2 }) })])
  assert.deepEqual(affected(replica, counted), [])
  const failed = replica.apply([row('Interface', 3, { name: 'one', mtu: 1500, error: 'no' })])
  assert.deepEqual(affected(replica, failed), ['one'])
})

test('a port that changes affects all taps that it has', () => {
  const replica = loaded()
  const change = replica.apply([row('Port', 5, { name: 'bond0', interfaces: ['uuid', uuid(3)] })])
  assert.deepEqual(affected(replica, change), ['one', 'two'])
})

test("ovs-vswitchd's report is told from the first counters of a port that it has made", () => {
  const replica = loaded()
  const report = replica.apply([row('Interface', 3, { name: 'one', mtu: 1500, statistics: map({ rx_bytes: 2 }) })])
  assert.equal(isReport(report), true)
  const first = replica.apply([row('Interface', 4, { name: 'two', statistics: map({ rx_bytes: 2 }) })])
  assert.equal(isReport(first), false)
  const again = replica.apply([
    row('Interface', 3, { name: 'one', mtu: 1500, statistics: map({ rx_bytes: 3 }) }),
    row('Interface', 4, { name: 'two', statistics: map({}) }),
  ])
  assert.equal(isReport(again), true)
  const withFirst = replica.apply([
    row('Interface', 3, { name: 'one', mtu: 1500, statistics: map({ rx_bytes: 4 }) }),
    row('Interface', 4, { name: 'two', statistics: map({ rx_bytes: 1 }) }),
  ])
  assert.equal(isReport(withFirst), true)
  const beside = replica.apply([row('Interface', 3, { name: 'one', mtu: 1400, statistics: map({ rx_bytes: 3 }) })])
  assert.equal(isReport(beside), false)
})

const tap = {
  name: must(parsePortName('one')),
  bridge: must(parseBridgeName('br0')),
  vlan: must(parseVlanId(10)),
  backing: { kind: 'host' },
  mtuBytes: 1500,
} as const

test('a tap that looks as before has not changed', () => {
  assert.equal(tapChange('one', tap, { ...tap, backing: { kind: 'host' } }), undefined)
  assert.deepEqual(tapChange('one', tap, { ...tap, mtuBytes: 9000 }), {
    key: 'one',
    before: tap,
    after: { ...tap, mtuBytes: 9000 },
  })
  assert.deepEqual(tapChange('one', tap, undefined), { key: 'one', before: tap, after: undefined })
})

const everything: TapScope = { bridge: undefined, kind: undefined, vlan: undefined, taps: undefined }
const br1: BridgeName = must(parseBridgeName('br1'))
const two: PortName = must(parsePortName('two'))

for (const [name, scope, isSeen] of [
  ['everything', everything, true],
  ['its bridge', { ...everything, bridge: tap.bridge }, true],
  ['another bridge', { ...everything, bridge: br1 }, false],
  ['its kind', { ...everything, kind: 'host' }, true],
  ['another kind', { ...everything, kind: 'tuntap' }, false],
  ['its VLAN', { ...everything, vlan: tap.vlan }, true],
  ['untagged taps', { ...everything, vlan: must(parseVlanId(0)) }, false],
  ['its name among others', { ...everything, taps: new Set([two, tap.name]) }, true],
  ['another name', { ...everything, taps: new Set([two]) }, false],
  ['its bridge and another VLAN', { ...everything, bridge: tap.bridge, vlan: must(parseVlanId(11)) }, false],
] as const) {
  test(`a tap is ${isSeen ? '' : 'not '}seen by who asks for ${name}`, () => {
    assert.equal(isWithin(scope, tap), isSeen)
  })
}

test('a detached tap is on no bridge', () => {
  const detached = { ...tap, bridge: undefined }
  assert.equal(isWithin(everything, detached), true)
  assert.equal(isWithin({ ...everything, bridge: tap.bridge }, detached), false)
})

test('scopes have one id only where they see the same', () => {
  const scopes: readonly TapScope[] = [
    everything,
    { ...everything, bridge: br1 },
    { ...everything, vlan: must(parseVlanId(0)) },
    { ...everything, kind: 'host' },
    { ...everything, taps: new Set([two]) },
  ]
  assert.equal(new Set(scopes.map(scopeId)).size, scopes.length)
  assert.equal(
    scopeId({ ...everything, taps: new Set([two, tap.name]) }),
    scopeId({ ...everything, taps: new Set([tap.name, two]) }),
  )
})
