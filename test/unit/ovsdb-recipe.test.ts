import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Tables } from '../../src/gen/vswitch.js'
import { carryOut, type Recipe } from '../../src/ovsdb/index.js'
import { startFakeOvsdbServer } from '../support/fake-ovsdb-server.js'
import { type FakeView, openFake, serving } from '../support/fake-session.js'
import { problemKind } from '../support/ovsdb-problem.js'
import { soon } from '../support/until.js'

/** What is there if an answer was lost is never found. */
const recipe: Recipe<Tables, FakeView, string> = {
  write(transaction) {
    transaction.comment('x')
    return () => 'made'
  },
  find: () => undefined,
}

test('without a lock a change whose answer was lost stays unknown', async () => {
  await using server = await startFakeOvsdbServer(serving({}, request => request.socket.destroy()))
  await using client = openFake(server)
  await assert.rejects(carryOut(client, recipe, { signal: soon() }), problemKind('outcome-unknown'))
})

test('a change that has left is unknown, not undone, when its caller gives up before it is settled', async () => {
  const giveUp = new AbortController()
  let locks = 0
  const handle = serving({}, request => {
    // The next connection never gets the lock.
    if (request.method === 'lock') request.answer({ locked: locks++ === 0 })
    else request.socket.destroy()
  })
  await using server = await startFakeOvsdbServer(handle)
  await using client = openFake(server, {}, { lock: 'the_lock' })
  client.onStatus(({ state }) => {
    if (state === 'locked-out' && locks === 2) giveUp.abort(new Error('enough'))
  })
  await assert.rejects(carryOut(client, recipe, { signal: giveUp.signal }), problemKind('outcome-unknown'))
})
