import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Waves } from '../../src/bridge/wave.js'
import { until } from '../support/until.js'

/** Waves over a switch that applies a change for as long as `isBusy`. */
function rig(gatherMs = 60_000) {
  const state = { isBusy: false, gathered: 0 }
  const waves = new Waves(
    () => state.isBusy,
    () => void state.gathered++,
    gatherMs,
  )
  const controller = new AbortController()
  const joined: Disposable[] = []
  const join = () => waves.join(controller.signal).then(place => void joined.push(place))
  return { state, waves, controller, joined, join }
}

/** What is to happen by itself has happened. */
const turn = async () => {
  for (let i = 0; i < 10; i++) await new Promise(resolve => setImmediate(resolve))
}

test('a call that comes alone waits for nobody, and the transaction for nobody but it', async () => {
  const { state, waves, joined, join } = rig()
  await join()
  assert.equal(waves.isGathering, true)
  joined[0]?.[Symbol.dispose]()
  assert.deepEqual([waves.isGathering, state.gathered], [false, 1])
})

test('calls that come during a change go on together after it', async () => {
  const { state, waves, joined, join } = rig()
  state.isBusy = true
  const calls = [join(), join(), join()]
  await turn()
  assert.equal(joined.length, 0)
  state.isBusy = false
  waves.proceed()
  await Promise.all(calls)
  assert.equal(joined.length, 3)
  joined[0]?.[Symbol.dispose]()
  joined[1]?.[Symbol.dispose]()
  assert.deepEqual([waves.isGathering, state.gathered], [true, 0])
  joined[2]?.[Symbol.dispose]()
  assert.deepEqual([waves.isGathering, state.gathered], [false, 1])
})

test('calls that come one upon the other begin at one time', async () => {
  const { joined, join } = rig()
  const calls: Promise<void>[] = []
  for (let i = 0; i < 20; i++) {
    calls.push(join())
    await new Promise(resolve => setImmediate(resolve))
    assert.equal(joined.length, 0)
  }
  await Promise.all(calls)
  assert.equal(joined.length, 20)
})

test('a place that is given up twice counts once', async () => {
  const { waves, joined, join } = rig()
  await Promise.all([join(), join()])
  joined[0]?.[Symbol.dispose]()
  joined[0]?.[Symbol.dispose]()
  assert.equal(waves.isGathering, true)
})

test('a slow call holds the others up for a short time only', async () => {
  const { state, waves, join } = rig(5)
  await join()
  await until('the wave has closed', () => state.gathered === 1)
  assert.equal(waves.isGathering, false)
})

test('each device that is made gives the next as much time', async context => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { state, waves, joined, join } = rig(1_000)
  await Promise.all([join(), join(), join()])
  context.mock.timers.tick(999)
  joined[0]?.[Symbol.dispose]()
  context.mock.timers.tick(999)
  assert.deepEqual([waves.isGathering, state.gathered], [true, 0])
  context.mock.timers.tick(1)
  assert.deepEqual([waves.isGathering, state.gathered], [false, 1])
})

test('who comes when a wave has closed goes in the next', async () => {
  const { waves, joined, join } = rig(0)
  await join()
  const late = join()
  await turn()
  assert.equal(joined.length, 1)
  waves.depart()
  waves.proceed()
  await late
  // A place of the wave that has left says nothing about this one.
  joined[0]?.[Symbol.dispose]()
  assert.equal(joined.length, 2)
})

test('a call that ends while it waits takes no place', async () => {
  const { state, waves, controller, joined, join } = rig()
  state.isBusy = true
  const call = join()
  await turn()
  controller.abort()
  await assert.rejects(call)
  state.isBusy = false
  waves.proceed()
  await turn()
  assert.deepEqual([joined.length, waves.isGathering], [0, false])
})
