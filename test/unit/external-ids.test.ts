import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import {
  configOf,
  isMirrorFor,
  lastTransaction,
  nextCaptureId,
  ownerOf,
  preExisted,
  readBondRecord,
  readNetflowRecord,
  roleOf,
  uplinkRoleOf,
  writeBondRecord,
} from '../../src/bridge/ownership.js'
import {
  readTapRecord,
  recordedTap,
  type TapRecord,
  tapRecordMarks,
  writeTapRecord,
} from '../../src/bridge/ownership-tap.js'
import { repairs } from '../../src/bridge/recovered.js'
import { isRecord } from '../../src/lib/json-rpc.js'
import { checkout } from '../support/readme.js'

/** Rows as daemons have written them, by table: the first, and one that knew more keys. */
const [first, later] = [recorded('external-ids-1'), recorded('external-ids-1-later')]
const dumps: readonly unknown[] = [first, later]

function recorded(name: string): unknown {
  return JSON.parse(readFileSync(new URL(`test/recorded/${name}.json`, checkout), 'utf8'))
}

interface RecordedRow {
  readonly name: string
  readonly ids: ReadonlyMap<string, string>
}

function rowsOf(table: string, dump = first): readonly RecordedRow[] {
  const rows = isRecord(dump) ? dump[table] : undefined
  assert(Array.isArray(rows) && rows.length > 0, table)
  return rows.map((row: unknown) => {
    const { name = '', external_ids: ids } = isRecord(row) ? row : {}
    const entries = isRecord(ids) ? Object.entries(ids) : []
    return { name: String(name), ids: new Map(entries.map(([key, value]) => [key, String(value)])) }
  })
}

function tapsOf(dump: unknown): readonly (readonly [string, TapRecord])[] {
  return rowsOf('QoS', dump).flatMap(({ ids }) => {
    const record = recordedTap('default', ids) === undefined ? undefined : readTapRecord(ids)
    return record === undefined ? [] : [[record.name, record]]
  })
}

test('taps that version 1 has recorded are read', () => {
  const taps = tapsOf(first)
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
  for (const { ids } of dumps.flatMap(dump => rowsOf('QoS', dump))) {
    const record = readTapRecord(ids)
    const written =
      record === undefined ? writeBondRecord('default', readBondRecord(ids)) : writeTapRecord('default', record)
    assert.deepEqual(new Map([...written].sort()), new Map([...ids].sort()))
  }
})

test('what a record no longer says goes, and nothing else', () => {
  const plain = readTapRecord(
    new Map([
      ['ovs-bridged:tap', 'one'],
      ['ovs-bridged:kind', 'host'],
    ]),
  )
  assert(plain !== undefined)
  const wanted = writeTapRecord('default', plain).set('ovs-bridged:of-tomorrow', 'yes')
  for (const { ids } of dumps.flatMap(dump => rowsOf('QoS', dump))) {
    if (recordedTap('default', ids) === undefined) continue
    const now = new Map(ids).set('ovs-bridged:of-tomorrow', 'yes')
    for (const [key, value] of tapRecordMarks('default', plain)) {
      if (value === undefined) now.delete(key)
      else now.set(key, value)
    }
    assert.deepEqual(new Map([...now].sort()), new Map([...wanted].sort()))
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

test('keys that version 1 has added since are read', () => {
  const { vm, host0 } = Object.fromEntries(tapsOf(later))
  assert.deepEqual(vm?.qos, {
    bitsPerSecond: 10_000_000,
    delayNs: 5_000_000,
    jitterNs: 1_000_000,
    lossPercent: 0.5,
    duplicatePercent: 1,
    corruptPercent: 2,
    reorderPercent: 3,
  })
  assert.equal(vm?.policedKbps, 5_000)
  assert.deepEqual(
    vm?.addresses.map(({ ip, mac, source }) => `${ip} ${mac} ${source}`),
    ['10.0.0.2 02:00:00:00:00:01 arp', '10.0.0.1 02:00:00:00:00:01 arp'],
  )
  assert.deepEqual([host0?.counted?.ifindex, host0?.counted?.counters.txBytes], [6, 2_586n])
  const [bond] = rowsOf('QoS', later).flatMap(({ ids }) => (roleOf(ids) === 'bond' ? [readBondRecord(ids)] : []))
  assert.deepEqual([bond?.vlan, bond?.qinqOuterVlan], [9, 200])
  const bridges = rowsOf('Bridge', later).map(({ name, ids }) => [name, preExisted(ids), [...configOf(ids)]])
  assert.deepEqual(bridges, [
    ['br0', false, []],
    ['there', true, [['stp_enable', 'true']]],
  ])
  for (const { ids } of rowsOf('Mirror', later)) assert(isMirrorFor('default', 'capture', ids))
  assert(rowsOf('Port', later).some(({ name, ids }) => name.startsWith('cap-') && roleOf(ids) === 'capture'))
  const [netflow] = rowsOf('NetFlow', later).map(({ ids }) => readNetflowRecord('default', ids))
  const [writer] = netflow?.writers.values() ?? []
  assert.deepEqual([writer?.format, writer?.gzip], ['ascii', true])
  assert.deepEqual([...(netflow?.files ?? [])], [['file:flows.txt', '27:1795554327209926212']])
  const [root] = rowsOf('Open_vSwitch', later)
  assert(root !== undefined)
  assert.deepEqual([nextCaptureId('default', root.ids), lastTransaction('default', root.ids)], [2, 'f5294a86:19'])
})

test('a key that a later version has added does not hinder', () => {
  for (const { ids } of rowsOf('QoS')) {
    const ofTomorrow = new Map([...ids, ['ovs-bridged:of-tomorrow', 'yes']])
    assert.deepEqual(readTapRecord(ofTomorrow), readTapRecord(ids))
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

test('docs/external-ids.md tells every kind of repair once, in the order in which they are made', () => {
  const text = readFileSync(new URL('docs/external-ids.md', checkout), 'utf8')
  const [, section = ''] = text.split('\n## What is put right, and when\n')
  assert.deepEqual(
    [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, kind]) => kind),
    repairs,
  )
})
