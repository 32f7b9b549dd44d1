import assert from 'node:assert/strict'
import { test } from 'node:test'
import { birthMac } from '../../src/kernel/birth-mac.js'
import { isBornFor } from '../../src/kernel/index.js'

test('the MAC of a veth tells for which alias it was made, and no other does', () => {
  const mac = birthMac({ alias: 'ovs-bridged:default', name: 'c0' })
  assert.match(mac, /^fe(:[\da-f]{2}){5}$/)
  assert(isBornFor('ovs-bridged:default', { name: 'c0', mac }))
  assert(!isBornFor('ovs-bridged:other', { name: 'c0', mac }))
  assert(!isBornFor('ovs-bridged:default', { name: 'c1', mac }))
  assert(!isBornFor('ovs-bridged:default', { name: 'c0', mac: '' }))
  assert(!isBornFor('ovs-bridged:default', { name: 'c0', mac: 'fe:00:00:00:00:00' }))
})
