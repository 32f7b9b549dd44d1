import assert from 'node:assert/strict'
import { schema } from '../../src/gen/vswitch.js'
import { callJsonRpc } from '../../src/lib/json-rpc.js'
import { type Change, newTransaction, type OvsdbEvent } from '../../src/ovsdb/index.js'
import { planOperations, readOutcome } from '../../src/ovsdb/operation.js'
import { laneTest } from '../support/lane.js'
import {
  addBridge,
  contents,
  freshContents,
  type OvsTestClient,
  type OvsView,
  openOvs,
  root,
} from '../support/ovs-client.js'
import { problemKind } from '../support/ovsdb-problem.js'
import { type PrivateOvsdbServer, startOvsdbServer } from '../support/ovsdb-server.js'
import { soon } from '../support/until.js'

/** No datapath takes part, so one lane is enough. */
const userspace = { only: 'userspace' } as const

function stateOf(client: OvsTestClient, state: string): Promise<true> {
  return client.waitFor(() => (client.status.state === state ? true : undefined), soon())
}

/** Everything that a subscriber is told, in words. */
function record(client: OvsTestClient): string[] {
  const told: string[] = []
  client.subscribe((changes: readonly Change<OvsView>[]) => {
    for (const change of changes) told.push(`${change.kind} ${change.table}`)
  })
  return told
}

async function openedOn(server: PrivateOvsdbServer): Promise<OvsTestClient> {
  const client = openOvs(server)
  await client.ready(soon())
  return client
}

laneTest('a database that is removed and added again comes back on the same connection', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = await openedOn(server)
  await addBridge(client, 'br0')
  await server.appctl('ovsdb-server/remove-db', 'Open_vSwitch')
  await stateOf(client, 'absent')
  assert.equal(client.replica.find('Bridge', 'name', 'br0')?.name, 'br0', 'the replica is kept meanwhile')
  await assert.rejects(addBridge(client, 'br1'), problemKind('not-connected'))
  const told = record(client)
  await server.appctl('ovsdb-server/add-db', server.databasePath)
  await client.ready(soon())
  assert.deepEqual(told, [], 'nothing has changed')
  await addBridge(client, 'br1')
  assert.deepEqual(contents(client), await freshContents(server))
  assert.equal(client.readings.connects, 1)
})

laneTest('a database that is not there yet is awaited on the connection', userspace, async () => {
  await using server = await startOvsdbServer()
  await server.appctl('ovsdb-server/remove-db', 'Open_vSwitch')
  await using client = openOvs(server)
  await stateOf(client, 'absent')
  await server.appctl('ovsdb-server/add-db', server.databasePath)
  await client.ready(soon())
  assert.equal(client.readings.connects, 1)
})

laneTest('a converted schema is taken over on the same connection', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = await openedOn(server)
  await addBridge(client, 'br0')
  const told = record(client)
  await server.convert('99.0.0')
  await client.waitFor(() => (client.schema.version === '99.0.0' ? true : undefined), soon())
  await client.ready(soon())
  await addBridge(client, 'br1')
  assert.deepEqual(told.sort(), ['insert Bridge', 'modify Open_vSwitch'])
  assert.deepEqual([client.readings.connects, client.readings.loads], [1, 2])
  assert.deepEqual(contents(client), await freshContents(server))
})

laneTest('a compaction, and a server that ends all connections, lose nothing', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = await openedOn(server)
  await addBridge(client, 'br0')
  const told = record(client)
  await server.appctl('ovsdb-server/compact')
  await addBridge(client, 'br1')
  await server.appctl('ovsdb-server/reconnect')
  await client.waitFor(() => (client.readings.loads === 2 ? true : undefined), soon())
  await addBridge(client, 'br2')
  assert.deepEqual(told, ['insert Bridge', 'modify Open_vSwitch', 'insert Bridge', 'modify Open_vSwitch'])
  assert.deepEqual(contents(client), await freshContents(server))
})

laneTest('the lock is stolen, given back, released and asked for again', userspace, async () => {
  await using server = await startOvsdbServer()
  await using owner = openOvs(server, { lock: 'the_lock' })
  await owner.ready(soon())
  await using thief = openOvs(server, { lock: 'the_lock' })
  await stateOf(thief, 'locked-out')
  await thief.stealLock()
  await thief.ready(soon())
  await stateOf(owner, 'locked-out')
  await assert.rejects(addBridge(owner, 'br0'), problemKind('lock-lost'))
  await addBridge(thief, 'br1')
  await thief.releaseLock()
  assert.equal(thief.status.state, 'locked-out')
  await owner.ready(soon())
  await addBridge(owner, 'br2')
  await thief.requestLock()
  assert.equal(thief.status.state, 'locked-out')
  await owner.releaseLock()
  await thief.ready(soon())
})

laneTest(
  'a transaction that asserts a lock which its session does not hold is refused by the server',
  userspace,
  async () => {
    await using server = await startOvsdbServer()
    await using owner = openOvs(server, { lock: 'the_lock' })
    await owner.ready(soon())
    const tx = newTransaction(schema)
    tx.setKeys('Open_vSwitch', root(owner), 'external_ids', new Map([['k', 'v']]))
    const plan = planOperations(tx.operations, 'the_lock')
    // What a client sends that does not know yet that it has lost the lock.
    const answer = await callJsonRpc(server.socketPath, 'transact', ['Open_vSwitch', ...plan.wire], soon())
    assert.throws(() => readOutcome(plan, answer), problemKind('lock-lost'))
    assert.equal(owner.replica.get('Open_vSwitch', root(owner))?.external_ids.size, 0)
  },
)

laneTest('a narrowed table holds the rows that meet the conditions, and follows them', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = await openedOn(server)
  for (const name of ['br0', 'br1', 'br2']) await addBridge(client, name)
  const names = () => [...client.replica.rows('Bridge')].map(row => row.name).sort()
  const told = record(client)
  await client.narrow(
    'Bridge',
    [
      ['name', '==', 'br0'],
      ['name', '==', 'br2'],
    ],
    { signal: soon() },
  )
  assert.deepEqual(names(), ['br0', 'br2'])
  assert.deepEqual(told, ['delete Bridge'])
  await addBridge(client, 'br3')
  await client.narrow('Bridge', [['name', '!=', 'br0']], { signal: soon() })
  assert.deepEqual(names(), ['br1', 'br2', 'br3'])
  await server.kill()
  await server.start()
  await client.waitFor(() => (client.readings.loads === 2 ? true : undefined), soon())
  assert.deepEqual(names(), ['br1', 'br2', 'br3'], 'the next connection asks for the same')
  await client.narrow('Bridge', [], { signal: soon() })
  assert.deepEqual(names(), [])
  await client.narrow('Bridge', 'all', { signal: soon() })
  assert.deepEqual(contents(client), await freshContents(server))
})

laneTest('a wait that is given up is cancelled at the server', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = openOvs(server, { lock: 'the_lock' })
  await client.ready(soon())
  const giveUp = new AbortController()
  const tx = newTransaction(schema)
  tx.waitRows('Bridge', [['name', '==', 'br0']], {
    columns: ['name'],
    rows: [{ name: 'br0' }],
    until: '==',
    timeoutMs: 3_600_000,
  })
  tx.setKeys('Open_vSwitch', root(client), 'external_ids', new Map([['waited', 'yes']]))
  const waiting = client.transact(tx, { signal: giveUp.signal })
  giveUp.abort(new Error('enough'))
  await assert.rejects(waiting, problemKind('outcome-unknown'))
  await client.settled(soon())
  await addBridge(client, 'br0')
  assert.equal(client.replica.get('Open_vSwitch', root(client))?.external_ids.has('waited'), false)
})

laneTest('a clustered server tells only what happened while the connection was lost', userspace, async () => {
  await using server = await startOvsdbServer({ model: 'clustered' })
  const loads: OvsdbEvent[] = []
  const onEvent = (event: OvsdbEvent) => void (event.kind === 'loaded' && loads.push(event))
  await using client = openOvs(server, { onEvent })
  await client.ready(soon())
  // A server keeps no longer a history than its contents.
  for (let i = 0; i < 40; i++) await addBridge(client, `br${i}`)
  const told = record(client)
  await server.appctl('ovsdb-server/reconnect')
  await client.waitFor(() => (client.readings.loads === 2 ? true : undefined), soon())
  await server.appctl('ovsdb-server/reconnect')
  await server.vsctl('del-br', 'br0')
  await client.waitFor(replica => (replica.find('Bridge', 'name', 'br0') === undefined ? true : undefined), soon())
  await client.waitFor(() => (client.readings.loads === 3 ? true : undefined), soon())
  assert.deepEqual(told.sort(), ['delete Bridge', 'modify Open_vSwitch'])
  assert.deepEqual(
    loads.map(load => load.kind === 'loaded' && load.isWhole),
    [true, false, false],
  )
  assert.deepEqual(contents(client), await freshContents(server))
})
