import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Source, Turns } from '../../src/server/turns.js'

/** What happened, in order. */
function recorded() {
  const events: string[] = []
  const source = (name: string): Source => ({
    stopReading: () => events.push(`${name} is not read`),
    startReading: () => events.push(`${name} is read`),
  })
  return { events, source, nextTurn: () => new Promise<void>(resolve => setImmediate(resolve)) }
}

test('a caller begins so many calls in a turn, the others later and in order, and somebody else now', async () => {
  const { events, source, nextTurn } = recorded()
  const turns = new Turns()
  const flood = source('flood')
  const begun: number[] = []
  for (let i = 0; i < 200; i++) turns.take('flooder', flood, () => begun.push(i))
  const firstTurn = begun.length
  assert(firstTurn > 0 && firstTurn < 100, `${firstTurn} of 200`)
  assert.deepEqual(events, ['flood is not read'])
  turns.take('somebody else', source('other'), () => events.push('somebody else'))
  assert.deepEqual(events, ['flood is not read', 'somebody else'])
  while (begun.length < 200) {
    const before = begun.length
    await nextTurn()
    assert(begun.length - before <= firstTurn, `${begun.length - before} in one turn`)
    assert(begun.length === 200 || !events.includes('flood is read'), 'read while its calls wait')
  }
  await nextTurn()
  assert.deepEqual(
    begun,
    Array.from({ length: 200 }, (_, i) => i),
  )
  assert.deepEqual(events, ['flood is not read', 'somebody else', 'flood is read'])
})

test('the connections of a caller that were stopped are read again one a turn', async () => {
  const { events, source, nextTurn } = recorded()
  const turns = new Turns()
  const sources = ['a', 'b', 'c'].map(source)
  for (const one of sources) for (let i = 0; i < 100; i++) turns.pass('flooder', one)
  assert.deepEqual(events.splice(0), ['a is not read', 'b is not read', 'c is not read'])
  for (const name of ['a', 'b', 'c']) {
    await nextTurn()
    assert.deepEqual(events.splice(0), [`${name} is read`])
  }
})

test('a turn that lasted long is followed by one of fewer calls', async () => {
  const { source, nextTurn } = recorded()
  const turns = new Turns()
  let begun = 0
  for (let i = 0; i < 300; i++) turns.take('flooder', source('flood'), () => begun++)
  const first = begun
  const until = performance.now() + 40
  while (performance.now() < until);
  await nextTurn()
  assert.equal(begun, first + first / 2)
})
