import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FlowPorts } from '../../src/bridge/flow-ports.js'

const names = (...pairs: readonly (readonly [number, string])[]) => new Map(pairs)

test('a number stands for who had it when the packets passed', () => {
  const ports = new FlowPorts(10)
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
  const ports = new FlowPorts(10)
  ports.update(names([1, 'red']), 1_000)
  assert.equal(ports.nameAt(1, 990), 'red')
  ports.update(names(), 2_000)
  ports.update(names([1, 'green']), 3_000)
  assert.equal(ports.nameAt(1, 2_990), 'green')
})

test('a port that is gone is remembered for five minutes', () => {
  const ports = new FlowPorts(10)
  ports.update(names([1, 'red'], [2, 'blue']), 1_000)
  ports.update(names([2, 'blue']), 2_000)
  ports.update(names([2, 'blue']), 301_000)
  // Told of late: the exporter's clock may be a little ahead.
  assert.equal(ports.nameAt(1, 2_100), 'red')
  ports.update(names([2, 'blue']), 303_000)
  assert.equal(ports.nameAt(1, 1_500), undefined)
  assert.equal(ports.nameAt(2, 1_500), 'blue')
})

const hourMs = 3_600_000

test('a port that is gone is remembered for twice the active timeout, whenever that was set', () => {
  const ports = new FlowPorts(10)
  ports.setActiveTimeout(3_600, 0)
  ports.update(names([1, 'red'], [2, 'blue']), 0)
  ports.update(names([2, 'blue']), hourMs)
  ports.update(names([2, 'blue']), 2.9 * hourMs)
  assert.equal(ports.nameAt(1, hourMs - 1), 'red')
  // What was under way with the long timeout is told within the short one.
  ports.setActiveTimeout(1, 2.9 * hourMs)
  ports.setActiveTimeout(2, 2.9 * hourMs + 1_000)
  ports.update(names([2, 'blue']), 2.9 * hourMs + 200_000)
  assert.equal(ports.nameAt(1, hourMs - 1), 'red')
  ports.update(names([2, 'blue']), 2.9 * hourMs + 400_000)
  assert.equal(ports.nameAt(1, hourMs - 1), undefined)
  assert.equal(ports.nameAt(2, hourMs - 1), 'blue')
})

test('a number tells nothing of packets that passed long before or after its time', () => {
  const ports = new FlowPorts(3_600)
  ports.update(names([2, 'blue']), 0)
  ports.update(names([1, 'red'], [2, 'blue']), hourMs)
  ports.update(names([2, 'blue']), 2 * hourMs)
  ports.update(names([1, 'green'], [2, 'blue']), 3 * hourMs)
  assert.deepEqual(
    [hourMs - 60_000, hourMs - 2_000, 2 * hourMs + 2_000, 2.5 * hourMs, 3 * hourMs - 2_000].map(at =>
      ports.nameAt(1, at),
    ),
    [undefined, 'red', 'red', undefined, 'green'],
  )
})

test('ports that were there before anybody looked had their numbers all the while', () => {
  const ports = new FlowPorts(3_600)
  ports.update(names([1, 'red']), hourMs)
  ports.update(names([1, 'red'], [2, 'blue']), hourMs + 1)
  assert.deepEqual([ports.nameAt(1, 1), ports.nameAt(2, 1)], ['red', undefined])
})

test('what is remembered of ports that are gone is bounded', () => {
  const ports = new FlowPorts(86_400)
  for (let i = 1; i <= 25_000; i++) ports.update(names([1, 'red'], [i + 1, `tap${i}`]), i)
  assert.equal(ports.nameAt(2, 1), undefined)
  assert.equal(ports.nameAt(20_001, 20_000), 'tap20000')
  assert.equal(ports.nameAt(1, 1), 'red')
})
