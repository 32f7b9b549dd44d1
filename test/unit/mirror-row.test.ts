import assert from 'node:assert/strict'
import { test } from 'node:test'
import { insertMirror } from '../../src/bridge/mirror-row.js'
import { schema } from '../../src/gen/vswitch.js'
import { newTransaction, type Uuid } from '../../src/ovsdb/index.js'
import { isUuid } from '../../src/ovsdb/notation.js'

function uuid(number: number): Uuid {
  const text = `0a1b2c3d-0000-4000-8000-${String(number).padStart(12, '0')}`
  assert.ok(isUuid(text))
  return text
}

test('a bridge takes as many mirrors as Open vSwitch, less those that the same transaction removes', () => {
  const bridge = { _uuid: uuid(100), name: 'br0', mirrors: Array.from({ length: 32 }, (_, i) => uuid(i)) }
  const transaction = newTransaction(schema)
  const add = (name: string) => insertMirror(transaction, bridge, { name })
  const refuses = () => assert.throws(() => add('one too many'), /^BridgeError: br0 has 32 mirrors/)
  refuses()
  // On another bridge, and one that has gone already.
  transaction.mutate('Bridge', uuid(101), 'mirrors', 'delete', [uuid(1)])
  transaction.mutate('Bridge', bridge._uuid, 'mirrors', 'delete', [uuid(50)])
  refuses()
  transaction.mutate('Bridge', bridge._uuid, 'mirrors', 'delete', [uuid(1), uuid(2)])
  add('first')
  add('second')
  refuses()
})
