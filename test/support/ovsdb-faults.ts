import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { carryOut, type OvsdbClient, openOvsdb, type Recipe, type Replica } from '../../src/ovsdb/index.js'
import { EventMirror } from './event-mirror.js'
import { type Faults, type FaultyServer, startFaultyServer } from './faulty-server.js'
import { ModelDatabase, type ModelTables, modelColumns, modelSchema } from './model-database.js'
import { type Choices, choicesFrom } from './random.js'
import { soon } from './until.js'

type Client = OvsdbClient<ModelTables>

const noFaults: Faults = {}

function open(server: FaultyServer, loadTimeoutMs: number): Client {
  return openOvsdb({
    endpoint: { kind: 'unix', path: server.socketPath },
    schema: modelSchema,
    monitor: modelColumns,
    lock: 'model',
    patience: { minBackoffMs: 1, maxBackoffMs: 1, loadTimeoutMs },
  })
}

/** Adds a row of this name, with a child. */
function addNode(name: string): Recipe<ModelTables, ModelTables, string> {
  return {
    write(transaction, replica) {
      assert.equal(replica.find('Node', 'name', name), undefined, `${name} would be added twice`)
      const node = transaction.insert('Node', { name, value: 1, tags: ['a', 'ü'], ids: new Map([['k', '"{[']]) })
      transaction.insert('Node', { name: `${name} child`, parent: node })
      return () => name
    },
    find: replica => replica.find('Node', 'name', name)?.name,
  }
}

/** As {@link ModelDatabase.contents} has them. */
function contentsOf(replica: Replica<ModelTables>): ReadonlyMap<string, object> {
  return new Map(
    [...replica.rows('Node')].map(row => [row._uuid, { ...row, tags: new Set(row.tags), ids: new Map(row.ids) }]),
  )
}

async function expectEqual(client: Client, database: ModelDatabase, mirror: EventMirror): Promise<void> {
  // What was acknowledged is there already; what others did may still be on its way.
  await client.waitFor(
    replica => (isDeepStrictEqual(contentsOf(replica), database.contents) ? true : undefined),
    soon(),
  )
  const rows = new Map([...client.replica.rows('Node')].map(row => [row._uuid, row]))
  assert.deepEqual(mirror.rows, rows, 'the changes told lead to what the replica has')
}

function expectEach(database: ModelDatabase, names: readonly string[]): void {
  const count = new Map<string, number>()
  for (const name of database.names) count.set(name, (count.get(name) ?? 0) + 1)
  for (const name of names) assert.equal(count.get(name), 1, `${name} is there once`)
}

/**
 * Runs one session again and again, cut `step` bytes later each time, and lets the connection behind it end what was begun.
 * Resolves to how many bytes the session had.
 */
export async function cutEveryByte(direction: 'out' | 'in', first: number, step: number): Promise<number> {
  const database = new ModelDatabase()
  await using server = await startFaultyServer(database)
  await using client = open(server, 10_000)
  const mirror = new EventMirror()
  client.subscribe(changes => mirror.take(changes))
  for (let offset = first; ; offset += step) {
    server.faults = direction === 'out' ? { cutOutAfter: offset } : { cutInAfter: offset }
    const losses = client.readings.losses
    server.cutAll()
    const name = `n${offset}`
    const done = carryOut(client, addNode(name), { signal: soon() })
    // Somebody else's change falls before the cut or behind it.
    server.transact({ op: 'insert', row: { name: `other${offset}`, value: offset } })
    // The first loss is the cut of the whole connection before.
    const isCut = () => (client.readings.losses >= losses + (offset === first ? 1 : 2) ? true : undefined)
    const cut = client.waitFor(isCut, soon()).then(() => 'cut')
    const [ended] = await Promise.all([Promise.race([cut, done]), nextTurn()])
    cut.catch(() => undefined)
    server.faults = noFaults
    await done
    await expectEqual(client, database, mirror)
    expectEach(database, [name, `${name} child`, `other${offset}`])
    // Small, so that the dump does not grow with the number of cuts.
    for (const uuid of database.contents.keys())
      server.transact({ op: 'delete', where: [['_uuid', '==', ['uuid', uuid]]] })
    await expectEqual(client, database, mirror)
    if (ended !== 'cut') return offset
  }
}

/**
 * Callers, somebody else, and a server that does everything wrong for a while, as the seed says. Fails with the seed in
 * its message.
 */
export async function runRandomSchedule(seed: number): Promise<void> {
  const random = choicesFrom(seed)
  const database = new ModelDatabase()
  await using server = await startFaultyServer(database)
  server.faults = randomFaults(random)
  await using client = open(server, 500)
  const mirror = new EventMirror()
  client.subscribe(changes => mirror.take(changes))
  try {
    const callers = [0, 1, 2].map(caller => runCaller(client, `c${caller}`))
    for (let i = 0; i < 30; i++) {
      server.transact(randomOperation(random, database, i))
      if (random.chance(0.2)) server.faults = randomFaults(random)
      if (random.chance(0.15)) server.cutAll()
      for (let turns = random.below(8); turns > 0; turns--) await nextTurn()
    }
    server.faults = noFaults
    server.cutAll()
    const added = (await Promise.all(callers)).flat()
    await expectEqual(client, database, mirror)
    expectEach(database, added)
  } catch (error) {
    throw new Error(`seed ${seed}`, { cause: error })
  }
}

async function runCaller(client: Client, caller: string): Promise<string[]> {
  const names = Array.from({ length: 6 }, (_, i) => `${caller} ${i}`)
  for (const name of names) await carryOut(client, addNode(name), { signal: soon() })
  return names
}

/** What somebody else does: it leaves the callers' rows alone, but for their values. */
function randomOperation(random: Choices, database: ModelDatabase, i: number): object {
  const rows = [...database.contents].map(([uuid, row]) => ({ uuid, name: 'name' in row ? String(row.name) : '' }))
  const others = rows.filter(row => row.name.startsWith('other'))
  const anyone = rows[random.below(rows.length + 1)]
  const other = others[random.below(others.length + 1)]
  if (other !== undefined && random.chance(0.3)) return { op: 'delete', where: whereRow(other.uuid) }
  if (anyone === undefined) return { op: 'insert', row: { name: `other${i}`, tags: ['set', ['x', `${i}`]] } }
  const operand = random.pick(['x', 'y', 'ü€😀', '\\"]}', '\u0000'])
  const mutation = random.pick([
    ['value', '+=', random.below(5)],
    ['tags', random.pick(['insert', 'delete']), ['set', [operand]]],
    ['ids', 'delete', ['set', [operand]]],
    ['ids', 'insert', ['map', [[operand, `${i}`]]]],
  ])
  return { op: 'mutate', where: whereRow(anyone.uuid), mutations: [mutation] }
}

function whereRow(uuid: string): unknown {
  return [['_uuid', '==', ['uuid', uuid]]]
}

function randomFaults(random: Choices): Faults {
  const cuts = [{}, { cutOutAfter: random.below(4000) }, { cutInAfter: random.below(2000) }]
  const pieces = [{}, { pieceBytes: () => 1 + random.below(40) }]
  const delays = [{}, { delayMs: () => random.pick([0, 0, 0, 1]) }]
  const spoilt = [{}, { distort: (message: string) => (random.chance(0.05) ? distorted(random, message) : message) }]
  return { ...random.pick(cuts), ...random.pick(pieces), ...random.pick(delays), ...random.pick(spoilt) }
}

/** An answer given twice, or bytes that are no message: never a message that says something else. */
function distorted(random: Choices, message: string): string {
  const isAnswer = !message.endsWith('"id":null}')
  const garbage = Buffer.from(Array.from({ length: 1 + random.below(8) }, () => random.below(256))).toString('latin1')
  return random.pick([
    ...(isAnswer ? [message + message] : []),
    message.slice(0, random.below(message.length)),
    `${message}}`,
    `x${garbage}${message}`,
    `{"id":${random.below(1e6) + 1e6},"result":{},"error":null}${message}`,
    `{"method":"update3","params":["replica","",{"Node":{"no uuid":{}}}],"id":null}${message}`,
    `{"method":5}${message}`,
    `[1]${message}`,
  ])
}
