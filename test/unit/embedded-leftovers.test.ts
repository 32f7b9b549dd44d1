import assert from 'node:assert/strict'
import { test } from 'node:test'
import { internalDevices } from '../../src/embedded/leftovers.js'

/** A conf.db of these records, whose lengths and hashes nobody here reads. */
function log(...records: readonly unknown[]): string {
  return ['{"name":"Open_vSwitch","tables":{"Interface":{}}}', ...records.map(record => JSON.stringify(record))]
    .map(record => `OVSDB JSON ${record.length} 0000000000000000000000000000000000000000\n${record}\n`)
    .join('')
}

const bridge = { Bridge: { b1: { name: 'br0', datapath_type: 'netdev' } } }
const host = { Interface: { i1: { name: 'host0', type: 'internal' } } }

test('an internal port that stands in the database is wanted, and so is its datapath', () => {
  assert.deepEqual(internalDevices(log(bridge, host)), { wanted: ['host0', 'ovs-netdev'], unwanted: [] })
})

test('a deleted internal port is unwanted', () => {
  const deleted = { Interface: { i1: null } }
  assert.deepEqual(internalDevices(log(bridge, host, deleted)), { wanted: ['ovs-netdev'], unwanted: ['host0'] })
})

test('a port made again under its old name is wanted', () => {
  const again = { Interface: { i1: null, i2: { name: 'host0', type: 'internal' } } }
  assert.deepEqual(internalDevices(log(bridge, host, again)).unwanted, [])
})

test('a changed row keeps the type that the change does not mention', () => {
  const change = { Interface: { i1: { mtu_request: 9000 } }, _is_diff: true }
  assert.deepEqual(internalDevices(log(bridge, host, change)).wanted, ['host0', 'ovs-netdev'])
})

test('a name that has passed from an internal port to a tap is left alone', () => {
  const tap = { Interface: { i1: null, i2: { name: 'host0' } } }
  assert.deepEqual(internalDevices(log(bridge, host, tap)), { wanted: ['ovs-netdev'], unwanted: [] })
})

test('a tap of somebody else is neither', () => {
  const tap = { Interface: { i1: { name: 'tap0' } } }
  assert.deepEqual(internalDevices(log(bridge, tap)), { wanted: ['ovs-netdev'], unwanted: [] })
})

test('without a bridge the datapath is unwanted', () => {
  assert.deepEqual(internalDevices(log()), { wanted: [], unwanted: ['ovs-netdev'] })
  assert.deepEqual(internalDevices(log(bridge, { Bridge: { b1: null } })), { wanted: [], unwanted: ['ovs-netdev'] })
})

test('a record that was cut short by a crash is passed over', () => {
  assert.deepEqual(internalDevices(`${log(bridge, host)}OVSDB JSON 40 00\n{"Interf`).wanted, ['host0', 'ovs-netdev'])
})
