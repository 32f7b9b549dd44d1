import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import {
  configOf,
  isMirrorFor,
  ownerOf,
  preExisted,
  readBondRecord,
  readNetflowRecord,
  roleOf,
  uplinkRoleOf,
  writeBondRecord,
} from '../../src/bridge/ownership.js'
import { readTapRecord, recordedTap, writeTapRecord } from '../../src/bridge/ownership-tap.js'
import { isRecord } from '../../src/lib/json-rpc.js'
import { checkout } from '../support/readme.js'

/** Rows as a daemon has written them, by table. */
const recorded: unknown = JSON.parse(readFileSync(new URL('test/recorded/external-ids-1.json', checkout), 'utf8'))

interface RecordedRow {
  readonly name: string
  readonly ids: ReadonlyMap<string, string>
}

function rowsOf(table: string): readonly RecordedRow[] {
  const rows = isRecord(recorded) ? recorded[table] : undefined
  assert(Array.isArray(rows) && rows.length > 0, table)
  return rows.map((row: unknown) => {
    const { name = '', external_ids: ids } = isRecord(row) ? row : {}
    const entries = isRecord(ids) ? Object.entries(ids) : []
    return { name: String(name), ids: new Map(entries.map(([key, value]) => [key, String(value)])) }
  })
}

test('taps that version 1 has recorded are read', () => {
  const taps = rowsOf('QoS').flatMap(({ ids }) => {
    const record = recordedTap('default', ids) === undefined ? undefined : readTapRecord(ids)
    return record === undefined ? [] : [[record.name, record] as const]
  })
  const { one, away, dead, ct0, host0, theirs } = Object.fromEntries(taps)
  assert.deepEqual(one, {
    name: 'one',
    id: '50ce62280a85',
    bridge: 'br0',
    vlan: 7,
    mac: '02:00:00:00:00:01',
    mtu: 1400,
    backing: { kind: 'tuntap', ownerUid: 1000, multiQueue: true },
    qinqOuterVlan: 100,
    qos: { ...one?.qos, bitsPerSecond: 10_000_000 },
    policedKbps: 0,
    defunct: false,
    addresses: [],
  })
  assert.deepEqual([away?.bridge, away?.defunct, dead?.defunct], [undefined, false, true])
  assert.deepEqual(ct0?.backing, { kind: 'container', netns: '/run/netns/lab', vethIndex: 4 })
  assert.deepEqual([host0?.backing.kind, theirs?.backing.kind, theirs?.vlan], ['host', 'adopted', 5])
  assert.equal(taps.length, 8)
})

test('what is read of a record is written as it was', () => {
  for (const { ids } of rowsOf('QoS')) {
    const record = readTapRecord(ids)
    const written =
      record === undefined ? writeBondRecord('default', readBondRecord(ids)) : writeTapRecord('default', record)
    assert.deepEqual(new Map([...written].sort()), new Map([...ids].sort()))
  }
})

test('ports, mirrors, NetFlow and bridges that version 1 has marked are known', () => {
  const roles = rowsOf('Port').map(({ name, ids }) => `${name} ${roleOf(ids) ?? uplinkRoleOf('default', ids)}`)
  assert.deepEqual(roles, [
    'bond0 bond',
    'br0 local',
    'ct0 tap',
    'dead tap',
    'host0 tap',
    'one tap',
    'ovsvxlan0 tunnel',
    'theirs tap',
    'up0 trunk',
  ])
  for (const { ids } of rowsOf('Mirror')) assert(isMirrorFor('default', 'mirror', ids))
  for (const { ids } of rowsOf('Bridge')) {
    assert.deepEqual([ownerOf(ids), preExisted(ids)], ['default', false])
    assert.deepEqual(configOf(ids), new Map([['other_config:a', '1']]))
  }
  const [netflow] = rowsOf('NetFlow').map(({ ids }) => readNetflowRecord('default', ids))
  assert.deepEqual([netflow?.endWithLastWriter, [...(netflow?.writers.keys() ?? [])]], [true, ['udp:127.0.0.1:9']])
})

test('a key that a later version has added does not hinder', () => {
  for (const { ids } of rowsOf('QoS')) {
    const later = new Map([...ids, ['ovs-bridged:of-tomorrow', 'yes']])
    assert.deepEqual(readTapRecord(later), readTapRecord(ids))
  }
})

test('a value that somebody has damaged counts as absent', () => {
  const wanted = readTapRecord(
    new Map([
      ['ovs-bridged:tap', 'one'],
      ['ovs-bridged:kind', 'tuntap'],
    ]),
  )
  assert(wanted !== undefined)
  for (const key of ['owner-uid', 'mac', 'mtu', 'vlan', 'bridge', 'policed-kbps', 'qos-rate', 'counted', 'addresses']) {
    const damaged = writeTapRecord('default', wanted).set(`ovs-bridged:${key}`, '!/')
    assert.deepEqual(readTapRecord(damaged), wanted, key)
  }
})
