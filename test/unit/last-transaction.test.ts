import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fateOf, markTransaction } from '../../src/bridge/last-transaction.js'
import type { OvsRows } from '../../src/bridge/ovs.js'
import { schema } from '../../src/gen/vswitch.js'
import { newTransaction } from '../../src/ovsdb/index.js'
import { isUuid } from '../../src/ovsdb/notation.js'
import { LiveReplica } from '../../src/ovsdb/replica.js'

const root = '11111111-1111-4111-8111-111111111111'

/** A replica whose root row has this as `last-transaction`, if anything; without a root row for null. */
function replicaWith(last: string | null | undefined): LiveReplica<OvsRows> {
  assert(isUuid(root))
  const replica = new LiveReplica<OvsRows>(schema, new Map([['Open_vSwitch', ['external_ids']]]))
  if (last === null) return replica
  const pairs = last === undefined ? [] : [['ovs-bridged:default:last-transaction', last]]
  const row = { external_ids: ['map', pairs] }
  replica.load([{ table: 'Open_vSwitch', uuid: root, kind: 'row', row }])
  return replica
}

test('what became of a transaction is told by its mark, by the one before it, or not at all', () => {
  const marked = (before: string | undefined) => {
    const transaction = newTransaction(schema)
    const mark = markTransaction(transaction, replicaWith(before), 'default', 'run:2')
    assert.equal(transaction.operationCount, 1)
    return mark
  }
  for (const before of [undefined, 'run:1', 'other:9']) {
    assert.equal(fateOf(marked(before), replicaWith('run:2'), 'default'), 'committed')
    assert.equal(fateOf(marked(before), replicaWith(before), 'default'), 'lost')
    // Another instance's word, or that of a database made anew, says nothing.
    assert.equal(fateOf(marked(before), replicaWith('other:10'), 'default'), 'unknown')
    assert.equal(fateOf(marked(before), replicaWith(null), 'default'), 'unknown')
  }
  assert.equal(fateOf(marked('run:1'), replicaWith(undefined), 'default'), 'unknown')
  assert.equal(markTransaction(newTransaction(schema), replicaWith(null), 'default', 'run:2'), undefined)
  assert.equal(fateOf(undefined, replicaWith('run:2'), 'default'), 'unknown')
})
