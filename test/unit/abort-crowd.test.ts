import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import { whenAborted } from '../../src/lib/abort.js'

test('all that wait for one signal are told, behind one listener, but those that left', () => {
  const controller = new AbortController()
  const told: number[] = []
  const leave = [0, 1, 2].map(i => whenAborted(controller.signal, () => void told.push(i)))
  assert.equal(getEventListeners(controller.signal, 'abort').length, 1)
  leave[1]?.()
  controller.abort()
  assert.deepEqual(told, [0, 2])
})

test('a signal that nobody waits for any more has no listener of ours', () => {
  const { signal } = new AbortController()
  const leave = [0, 1].map(() => whenAborted(signal, () => {}))
  for (const each of leave) each()
  for (const each of leave) each()
  assert.equal(getEventListeners(signal, 'abort').length, 0)
})
