import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FlowPorts } from '../../src/bridge/flow-ports.js'

const names = (...pairs: readonly (readonly [number, string])[]) => new Map(pairs)

test('a number stands for who had it when the packets passed', () => {
  const ports = new FlowPorts()
  ports.update(names([1, 'red'], [2, 'blue']), 1_000)
  ports.update(names([1, 'red'], [3, 'blue']), 2_000)
  ports.update(names([1, 'green'], [3, 'blue']), 3_000)
  assert.equal(ports.nameAt(1, 1_500), 'red')
  assert.equal(ports.nameAt(1, 2_999), 'red')
  assert.equal(ports.nameAt(1, 3_001), 'green')
  assert.equal(ports.nameAt(2, 1_500), 'blue')
  assert.equal(ports.nameAt(3, 2_500), 'blue')
  assert.equal(ports.nameAt(4, 2_500), undefined)
})

test('packets that pass just before their port is known are of that port', () => {
  const ports = new FlowPorts()
  ports.update(names([1, 'red']), 1_000)
  assert.equal(ports.nameAt(1, 990), 'red')
  ports.update(names(), 2_000)
  ports.update(names([1, 'green']), 3_000)
  assert.equal(ports.nameAt(1, 2_990), 'green')
})

test('a port that is gone is remembered for five minutes', () => {
  const ports = new FlowPorts()
  ports.update(names([1, 'red'], [2, 'blue']), 1_000)
  ports.update(names([2, 'blue']), 2_000)
  ports.update(names([2, 'blue']), 301_000)
  // Told of late: the exporter's clock may be a little ahead.
  assert.equal(ports.nameAt(1, 2_100), 'red')
  ports.update(names([2, 'blue']), 303_000)
  assert.equal(ports.nameAt(1, 1_500), undefined)
  assert.equal(ports.nameAt(2, 1_500), 'blue')
})
