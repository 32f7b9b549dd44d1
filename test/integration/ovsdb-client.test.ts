import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { schema } from '../../src/gen/vswitch.js'
import { type Change, newTransaction, OvsdbError } from '../../src/ovsdb/index.js'
import { laneTest } from '../support/lane.js'
import { addBridge, contents, freshContents, type OvsView, openOvs as open, root } from '../support/ovs-client.js'
import { problemKind } from '../support/ovsdb-problem.js'
import { startOvsdbServer } from '../support/ovsdb-server.js'
import { soon } from '../support/until.js'

/** No datapath takes part, so one lane is enough. */
const userspace = { only: 'userspace' } as const

laneTest('a committed transaction stands in the replica when transact resolves', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  const tx = newTransaction(schema)
  const iface = tx.insert('Interface', { name: 'tap0', type: 'internal' })
  const port = tx.insert('Port', { name: 'tap0', interfaces: [iface], tag: 7, external_ids: new Map([['k', 'ü€😀']]) })
  const bridge = tx.insert('Bridge', { name: 'br0', ports: [port] })
  tx.mutate('Open_vSwitch', root(client), 'bridges', 'insert', [bridge])
  const done = await client.transact(tx, { signal: soon() })
  const row = client.replica.find('Port', 'name', 'tap0')
  assert.equal(row?._uuid, done.uuid(port))
  assert.equal(row.tag, 7)
  assert.deepEqual([...row.external_ids], [['k', 'ü€😀']])
  assert.deepEqual(
    [...client.replica.referrers('Bridge', 'ports', row._uuid)].map(b => b.name),
    ['br0'],
  )
  assert.deepEqual([...client.replica.referrers('Port', 'interfaces', done.uuid(iface))], [row])
})

laneTest('one transaction increments next_cfg and reads it back', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  const before = client.replica.get('Open_vSwitch', root(client))?.next_cfg
  const tx = newTransaction(schema)
  tx.mutate('Open_vSwitch', root(client), 'next_cfg', '+=', 1)
  const selection = tx.select('Open_vSwitch', root(client), ['next_cfg'])
  const done = await client.transact(tx, { signal: soon() })
  assert.equal(done.row(selection)?.next_cfg, Number(before) + 1)
})

laneTest('an integer beyond 2^53 goes to the server and back unchanged', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  const tx = newTransaction(schema)
  tx.update('Open_vSwitch', root(client), { next_cfg: 9007199254740993n })
  const selection = tx.select('Open_vSwitch', root(client), ['next_cfg'])
  const done = await client.transact(tx, { signal: soon() })
  assert.equal(done.row(selection)?.next_cfg, 9007199254740993n)
  assert.equal(client.replica.get('Open_vSwitch', root(client))?.next_cfg, 9007199254740993n)
})

laneTest('sets, maps and optional columns follow what another client does', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  await server.vsctl(
    'add-br',
    'br0',
    '--',
    'set',
    'port',
    'br0',
    'trunks=1,2,3',
    'tag=5',
    'external_ids:a=1',
    'external_ids:b=2',
  )
  await server.vsctl(
    'set',
    'port',
    'br0',
    'trunks=2,3,4',
    'external_ids:a=9',
    '--',
    'remove',
    'port',
    'br0',
    'external_ids',
    'b',
    '--',
    'clear',
    'port',
    'br0',
    'tag',
  )
  const port = await client.waitFor(replica => {
    const row = replica.find('Port', 'name', 'br0')
    return row?.tag === undefined ? row : undefined
  }, soon())
  assert.deepEqual([...port.trunks].sort(), [2, 3, 4])
  assert.deepEqual([...port.external_ids], [['a', '9']])
  assert.equal(port.tag, undefined)
  assert.deepEqual(contents(client), await freshContents(server))
})

laneTest('setKeys sets and removes the given keys and leaves the others', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  const bridge = await addBridge(client, 'br0')
  const put = (entries: [string, string | undefined][]) => {
    const tx = newTransaction(schema)
    tx.setKeys('Bridge', bridge, 'external_ids', new Map(entries))
    return client.transact(tx, { signal: soon() })
  }
  await put([
    ['a', '1'],
    ['b', '2'],
    ['c', '3'],
  ])
  await put([
    ['a', '4'],
    ['b', undefined],
  ])
  assert.deepEqual([...(client.replica.get('Bridge', bridge)?.external_ids ?? [])].sort(), [
    ['a', '4'],
    ['c', '3'],
  ])
})

laneTest('a change to a row that is gone fails the whole transaction', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  const bridge = await addBridge(client, 'br0')
  await server.vsctl('del-br', 'br0')
  const tx = newTransaction(schema)
  tx.setKeys('Open_vSwitch', root(client), 'external_ids', new Map([['neighbour', 'yes']]))
  const index = tx.operationCount
  tx.update('Bridge', bridge, { stp_enable: true })
  await assert.rejects(client.transact(tx, { signal: soon() }), (error: unknown) => {
    assert.ok(error instanceof OvsdbError && error.problem.kind === 'row-vanished')
    assert.equal(error.problem.operationIndex, index)
    return true
  })
  assert.equal(client.replica.get('Open_vSwitch', root(client))?.external_ids.has('neighbour'), false)
})

laneTest('the second delete of one row fails the whole transaction', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  const bridge = await addBridge(client, 'br0')
  const tx = newTransaction(schema)
  tx.mutate('Open_vSwitch', root(client), 'bridges', 'delete', [bridge])
  tx.update('Bridge', bridge, { stp_enable: true })
  tx.delete('Bridge', bridge)
  tx.delete('Bridge', bridge)
  await assert.rejects(client.transact(tx, { signal: soon() }), problemKind('row-vanished'))
  assert.equal(client.replica.get('Bridge', bridge)?.name, 'br0')
})

laneTest('a wait that does not hold is a failed precondition', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  const bridge = await addBridge(client, 'br0')
  const holds = newTransaction(schema)
  holds.wait('Bridge', bridge, { name: 'br0' })
  holds.wait('Bridge', bridge, {})
  holds.waitRows('Bridge', [['name', '==', 'br1']], { columns: ['name'], rows: [], until: '==' })
  await client.transact(holds, { signal: soon() })
  const fails = newTransaction(schema)
  fails.comment('first')
  fails.waitRows('Bridge', [['name', '==', 'br0']], { columns: ['name'], rows: [], until: '==' })
  await assert.rejects(client.transact(fails, { signal: soon() }), (error: unknown) => {
    assert.ok(error instanceof OvsdbError && error.problem.kind === 'precondition-failed')
    assert.equal(error.problem.operationIndex, 1)
    return true
  })
})

laneTest('an error at commit belongs to no operation', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  await addBridge(client, 'br0')
  await assert.rejects(addBridge(client, 'br0'), (error: unknown) => {
    assert.ok(error instanceof OvsdbError && error.problem.kind === 'rejected')
    assert.equal(error.problem.error, 'constraint violation')
    assert.equal(error.problem.operationIndex, undefined)
    return true
  })
})

laneTest('the second holder of a lock is locked out until the first one leaves', userspace, async () => {
  await using server = await startOvsdbServer()
  await using first = open(server, { lock: 'the_lock' })
  await first.ready(soon())
  await using second = open(server, { lock: 'the_lock' })
  await second.waitFor(() => (second.status.state === 'locked-out' ? true : undefined), soon())
  const tx = newTransaction(schema)
  tx.comment('x')
  await assert.rejects(second.transact(tx, { signal: soon() }), problemKind('lock-lost'))
  await first.transact(tx, { signal: soon() })
  await first[Symbol.asyncDispose]()
  await second.ready(soon())
  await second.transact(tx, { signal: soon() })
})

laneTest(
  'after a crash of the server the replica is equal again and only the difference is told',
  userspace,
  async () => {
    await using server = await startOvsdbServer()
    await using client = open(server)
    await client.ready(soon())
    for (const name of ['br0', 'br1', 'br2']) await server.vsctl('add-br', name)
    await client.waitFor(replica => replica.find('Bridge', 'name', 'br2'), soon())
    const waiting = client.waitFor(replica => replica.find('Bridge', 'name', 'br3'), soon())
    await server.kill()
    await client.waitFor(() => (client.status.state === 'waiting' ? true : undefined), soon())
    assert.ok(client.replica.find('Bridge', 'name', 'br0'), 'the replica is kept while the server is away')
    const changes: Change<OvsView>[] = []
    client.subscribe(batch => changes.push(...batch))
    await server.start()
    await server.vsctl('add-br', 'br3', '--', 'del-br', 'br1')
    assert.equal((await waiting).name, 'br3')
    await client.ready(soon())
    await client.waitFor(replica => (replica.find('Bridge', 'name', 'br1') === undefined ? true : undefined), soon())
    const told = changes.map(change => `${change.kind} ${change.table}`).sort()
    const each = ['Bridge', 'Interface', 'Port']
    assert.deepEqual(told, [...each.map(t => `delete ${t}`), ...each.map(t => `insert ${t}`), 'modify Open_vSwitch'])
    assert.deepEqual(contents(client), await freshContents(server))
  },
)

laneTest('without a connection a transaction fails at once and nothing is sent', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  await server.kill()
  await client.waitFor(() => (client.status.state === 'ready' ? undefined : true), soon())
  const tx = newTransaction(schema)
  tx.comment('x')
  await assert.rejects(client.transact(tx, { signal: soon() }), problemKind('not-connected'))
})

laneTest('10,000 ports written in one transaction are read whole by another client', userspace, async () => {
  await using server = await startOvsdbServer()
  await using writer = open(server)
  await writer.ready(soon())
  const tx = newTransaction(schema)
  const ports = Array.from({ length: 10_000 }, (_, i) => {
    const name = `tap${i}`
    const ids = new Map([
      ['attached-mac', '52:54:00:00:00:01'],
      ['ovs-bridged:kind', 'tap'],
    ])
    return tx.insert('Port', { name, interfaces: [tx.insert('Interface', { name })], tag: i % 4000, external_ids: ids })
  })
  tx.mutate('Open_vSwitch', root(writer), 'bridges', 'insert', [tx.insert('Bridge', { name: 'br0', ports })])
  await writer.transact(tx, { signal: soon() })
  await using reader = open(server)
  await reader.ready(soon())
  assert.equal([...reader.replica.rows('Port')].length, 10_000)
  assert.deepEqual(contents(reader), contents(writer))
})

laneTest('a comment stands in the log of the database', userspace, async () => {
  await using server = await startOvsdbServer()
  await using client = open(server)
  await client.ready(soon())
  const tx = newTransaction(schema)
  tx.comment('ü who did it')
  tx.setKeys('Open_vSwitch', root(client), 'external_ids', new Map([['k', 'v']]))
  await client.transact(tx, { signal: soon() })
  const log = await readFile(server.databasePath, 'utf8')
  assert.match(log, /"_comment":"ü who did it"/)
})
