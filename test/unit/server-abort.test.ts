import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import {
  Aborted,
  abortedBy,
  abortReason,
  abortScope,
  cancelled,
  raceAbort,
  raceGrace,
  shuttingDown,
  sleep,
} from '../../src/lib/abort.js'

// On a busy machine the deadline may have passed before anybody listens.
const fired = (signal: AbortSignal) =>
  new Promise<unknown>(resolve => {
    if (signal.aborted) resolve(signal.reason)
    else signal.addEventListener('abort', () => resolve(signal.reason))
  })
const listeners = (signal: AbortSignal) => getEventListeners(signal, 'abort').length

test('a scope fires at its deadline', async () => {
  using scope = abortScope({ deadline: Date.now() + 10 })
  const reason = await fired(scope.signal)
  assert(reason instanceof Aborted)
  assert.equal(reason.why, 'deadline')
})

test('a deadline that has passed fires at once', () => {
  using scope = abortScope({ deadline: Date.now() - 1 })
  assert(scope.signal.aborted)
})

test('a deadline a year away does not fire now', async () => {
  using scope = abortScope({ deadline: Date.now() + 365 * 86_400_000 })
  await new Promise(resolve => setTimeout(resolve, 5))
  assert.equal(scope.signal.aborted, false)
})

test("a scope has its parent's reason", () => {
  using parent = abortScope()
  using scope = abortScope({ parents: [parent.signal] })
  parent.abort(shuttingDown())
  assert.equal(scope.signal.reason, parent.signal.reason)
})

test('only the first reason counts', () => {
  using scope = abortScope()
  const first = cancelled()
  scope.abort(first)
  scope.abort(shuttingDown())
  assert.equal(scope.signal.reason, first)
})

test('a scope that ended leaves nothing with its parent and does not fire', () => {
  using parent = abortScope()
  const scope = abortScope({ parents: [parent.signal], deadline: Date.now() + 60_000 })
  scope[Symbol.dispose]()
  assert.equal(listeners(parent.signal), 0)
  assert.equal(scope.signal.aborted, false)
})

test('a scope with one aborted parent leaves nothing with the other', () => {
  using living = abortScope()
  using dead = abortScope()
  dead.abort(cancelled())
  using _scope = abortScope({ parents: [dead.signal, living.signal], deadline: Date.now() + 60_000 })
  assert.equal(listeners(living.signal), 0)
})

test('a race won by the promise leaves no listener', async () => {
  using scope = abortScope()
  assert.equal(await raceAbort(Promise.resolve(1), scope.signal), 1)
  assert.equal(listeners(scope.signal), 0)
})

test('a race lost to the signal rejects with its reason', async () => {
  using scope = abortScope()
  const raced = raceAbort(new Promise(() => {}), scope.signal)
  const reason = cancelled()
  scope.abort(reason)
  await assert.rejects(raced, (error: unknown) => error === reason)
})

test('a promise that fails after its race was lost bothers nobody', async () => {
  using scope = abortScope()
  scope.abort(cancelled())
  let fail: (error: Error) => void = () => {}
  const raced = raceAbort(
    new Promise((_, reject) => {
      fail = reject
    }),
    scope.signal,
  )
  await assert.rejects(raced)
  fail(new Error('too late'))
  await new Promise(resolve => setImmediate(resolve))
})

test('a sleep ends with its signal, and takes its timer along', async () => {
  using scope = abortScope()
  const slept = sleep(60_000, scope.signal)
  scope.abort(cancelled())
  await assert.rejects(slept, Aborted)
})

test('a sleep that was slept out leaves no listener', async () => {
  using scope = abortScope()
  await sleep(1, scope.signal)
  assert.equal(listeners(scope.signal), 0)
})

test('what does not end within its grace after the signal is given up, with the reason of that', async () => {
  using scope = abortScope()
  const endless = raceGrace(new Promise(() => {}), scope.signal, 5, abortReason)
  const reason = shuttingDown()
  scope.abort(reason)
  await assert.rejects(endless, error => error === reason)
  assert.equal(listeners(scope.signal), 0)
})

test('what ends within its grace after the signal has its own end', async () => {
  using scope = abortScope()
  let end = (_value: string) => {}
  const ending = raceGrace(new Promise<string>(resolve => (end = resolve)), scope.signal, 60_000, abortReason)
  scope.abort(shuttingDown())
  end('its own')
  assert.equal(await ending, 'its own')
  assert.equal(listeners(scope.signal), 0)
})

test('an AbortError stands for the reason of the signal, any other error for itself', () => {
  using scope = abortScope()
  const error = new DOMException('aborted', 'AbortError')
  assert.equal(abortedBy(error, scope.signal), undefined)
  const reason = shuttingDown()
  scope.abort(reason)
  assert.equal(abortedBy(error, scope.signal), reason)
  assert.equal(abortedBy(new Error('x'), scope.signal), undefined)
})
