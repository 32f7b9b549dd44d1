import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import { Turns } from '../../src/server/turns.js'

/** Turns by a clock that only work moves. */
function clocked() {
  let nowMs = 0
  const done: string[] = []
  const thrown: unknown[] = []
  const turns = new Turns(() => nowMs)
  return {
    take: (callerId: string, work: () => void) => turns.take(callerId, work, error => thrown.push(error)),
    charge: (callerId: string, ms: number) => turns.charge(callerId, ms),
    rest: (callerId: string, ms: number) => turns.rest(callerId, ms),
    thrown,
    /** What was done since it was last asked. */
    done: () => done.splice(0),
    work: (name: string, ms: number) => () => {
      done.push(name)
      nowMs += ms
    },
  }
}

const numbered = (count: number) => Array.from({ length: count }, (_, i) => `${i}`)

test('a caller has so much done in a turn, the rest later and in its order, and somebody else all of his now', async () => {
  const { take, done, work } = clocked()
  for (const name of numbered(40)) take('flooder', work(name, 0.5))
  const order = done()
  assert(order.length > 0 && order.length < 20, `${order.length} in the first turn`)
  const most = order.length
  take('somebody else', work('other', 0.5))
  assert.deepEqual(done(), ['other'])
  while (order.length < 40) {
    await nextTurn()
    const now = done()
    assert(now.length > 0 && now.length <= most, `${now.length} in one turn`)
    order.push(...now)
  }
  assert.deepEqual(order, numbered(40))
})

test('what took longer than a turn has for a caller is paid for by the next ones', async () => {
  const { take, done, work } = clocked()
  take('flooder', work('long', 16))
  take('flooder', work('next', 0))
  assert.deepEqual(done(), ['long'])
  await nextTurn()
  await nextTurn()
  assert.deepEqual(done(), [])
  while (done().length === 0) await nextTurn()
})

test('what comes of work is done after what waited before, and no deeper', async () => {
  const { take, done, work } = clocked()
  let depth = 0
  take('caller', () => {
    depth++
    take('caller', () => {
      work('comes of it', 0)()
      assert.equal(depth, 0)
    })
    depth--
    work('work', 0)()
  })
  assert.deepEqual(done(), ['work', 'comes of it'])
})

test('what is charged for counts as if it had been done', async () => {
  const { take, charge, done, work } = clocked()
  charge('flooder', 100)
  take('flooder', work('waits', 0))
  take('somebody else', work('other', 0))
  await nextTurn()
  assert.deepEqual(done(), ['other'])
  while (done().length === 0) await nextTurn()
})

test('who rests has its turns when the time is over, however many there were meanwhile, and others have theirs', async () => {
  const { take, rest, done, work } = clocked()
  rest('flooder', 2)
  rest('flooder', 1)
  take('flooder', work('waits', 0))
  for (const name of ['one', 'two', 'three']) {
    for (let i = 0; i < 10; i++) await nextTurn()
    assert.deepEqual(done(), [])
    take('somebody else', work(name, 1))
    assert.deepEqual(done(), [name])
  }
  while (done().length === 0) await nextTurn()
})

test('while all rest the thread is not kept busy, and who comes by then is served at once', async () => {
  let asked = 0
  const turns = new Turns(() => {
    asked++
    return performance.now()
  })
  const beganMs = performance.now()
  turns.rest('flooder', 50)
  const waited = new Promise<void>(resolve => turns.take('flooder', resolve, assert.ifError))
  await delay(20)
  const served = new Promise<void>(resolve => turns.take('somebody else', resolve, assert.ifError))
  await Promise.race([served, nextTurn().then(() => assert.fail('somebody else waits'))])
  await waited
  assert(performance.now() - beganMs >= 50)
  assert(asked < 200, `the time was asked for ${asked} times`)
})

test('turns that last long are followed by turns with less for each', async () => {
  const { take, done, work } = clocked()
  for (const name of numbered(400)) take('flooder', work(name, 0.05))
  const atFirst = done().length
  for (let turn = 0; turn < 3; turn++) {
    // Somebody else each time, who is done with.
    take(`busy ${turn}`, work('busy', 10))
    done()
    await nextTurn()
  }
  const later = done().length
  assert(later > 0 && later < atFirst / 2, `${later} and not ${atFirst}`)
})

test('work that fails is told to who asked for it, and is the end of nothing else', async () => {
  const { take, charge, done, work, thrown } = clocked()
  for (const caller of ['first', 'second', 'third']) {
    charge(caller, 1)
    take(caller, work(`${caller} waits`, 0))
    take(caller, () => assert.fail(`${caller} is broken`))
    take(caller, work(`${caller} goes on`, 0))
  }
  assert.deepEqual(done(), [])
  await nextTurn()
  assert.deepEqual(
    done(),
    ['first', 'second', 'third'].flatMap(caller => [`${caller} waits`, `${caller} goes on`]),
  )
  assert.deepEqual(thrown.map(String), [
    'AssertionError [ERR_ASSERTION]: first is broken',
    'AssertionError [ERR_ASSERTION]: second is broken',
    'AssertionError [ERR_ASSERTION]: third is broken',
  ])
  take('first', () => assert.fail('at once'))
  take('first', work('next', 0))
  assert.deepEqual([done(), thrown.length], [['next'], 4])
  await nextTurn()
})
