import assert from 'node:assert/strict'
import type { Tables } from '../../src/gen/vswitch.js'
import { carryOut, type Recipe } from '../../src/ovsdb/index.js'
import { laneTest } from '../support/lane.js'
import { addBridge, type OvsTestClient, type OvsView, openOvs, root } from '../support/ovs-client.js'
import { problemKind } from '../support/ovsdb-problem.js'
import { startOvsdbServer } from '../support/ovsdb-server.js'
import { soon } from '../support/until.js'

/** No datapath takes part, so one lane is enough. */
const userspace = { only: 'userspace' } as const

/** Adds a tag to the set that a bridge has, by writing the whole: whoever else has done so meanwhile has won. */
function append(client: OvsTestClient, tag: number): Recipe<Tables, OvsView, number> {
  return {
    write(transaction, replica) {
      const bridge = replica.find('Bridge', 'name', 'br0')
      assert.ok(bridge)
      const { flood_vlans: before } = bridge
      transaction.wait('Bridge', bridge._uuid, { flood_vlans: before })
      transaction.update('Bridge', bridge._uuid, { flood_vlans: [...before, tag] })
      transaction.mutate('Open_vSwitch', root(client), 'next_cfg', '+=', 1)
      return () => before.length
    },
  }
}

laneTest('a hundred callers who race for one row all win in the end, each of them once', userspace, async () => {
  await using server = await startOvsdbServer()
  await using one = openOvs(server)
  await using other = openOvs(server)
  await Promise.all([one.ready(soon()), other.ready(soon())])
  await addBridge(one, 'br0')
  await other.waitFor(replica => replica.find('Bridge', 'name', 'br0'), soon())
  const signal = soon()
  const tags = Array.from({ length: 100 }, (_, i) => i)
  const places = await Promise.all(
    tags.map(tag => {
      const client = tag % 2 === 0 ? one : other
      return carryOut(client, append(client, tag), { signal })
    }),
  )
  // Each has found one more than the one before it: no change has overwritten another, and none was made twice.
  assert.deepEqual(
    places.sort((a, b) => a - b),
    tags,
  )
  await one.waitFor(replica => {
    const isLast = replica.get('Open_vSwitch', root(one))?.next_cfg === tags.length
    return isLast ? true : undefined
  }, soon())
  assert.deepEqual(new Set(one.replica.find('Bridge', 'name', 'br0')?.flood_vlans), new Set(tags))
})

laneTest('a change that the database will never take is given up, with what the server says', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = openOvs(server)
  await client.ready(soon())
  await addBridge(client, 'br0')
  let written = 0
  const recipe: Recipe<Tables, OvsView, void> = {
    write(transaction) {
      written++
      const bridge = transaction.insert('Bridge', { name: 'br0' })
      transaction.mutate('Open_vSwitch', root(client), 'bridges', 'insert', [bridge])
      return () => undefined
    },
  }
  await assert.rejects(carryOut(client, recipe, { signal: soon() }), problemKind('rejected'))
  assert.ok(written > 1, 'it may have been a race')
})
