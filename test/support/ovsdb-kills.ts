import assert from 'node:assert/strict'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { schema, type Tables } from '../../src/gen/vswitch.js'
import { carryOut, type Recipe } from '../../src/ovsdb/index.js'
import { isArray, isRecord } from '../../src/ovsdb/json.js'
import { decoderOf } from '../../src/ovsdb/notation.js'
import { EventMirror } from './event-mirror.js'
import { type OvsTestClient, type OvsView, openOvs, root } from './ovs-client.js'
import { type PrivateOvsdbServer, startOvsdbServer } from './ovsdb-server.js'
import { choicesFrom } from './random.js'
import { until } from './until.js'

type OvsRecipe = Recipe<Tables, OvsView, 'done'>

const callerCount = 8

/** What may befall a server that is at work. */
const mishaps = {
  kill: async server => {
    await server.kill()
    await server.start()
  },
  compaction: async server => void (await server.appctl('ovsdb-server/compact')),
  disconnection: async server => void (await server.appctl('ovsdb-server/reconnect')),
  conversion: server => server.convert('99.0.0'),
  removal: async server => {
    await server.appctl('ovsdb-server/remove-db', 'Open_vSwitch')
    await server.appctl('ovsdb-server/add-db', server.databasePath)
  },
} satisfies Record<string, (server: PrivateOvsdbServer) => Promise<void>>
export type Mishap = keyof typeof mishaps
export const allMishaps = Object.keys(mishaps) as Mishap[]

/** What came of a run. */
export interface Survived {
  readonly acknowledged: number
  /** Transactions whose answer was lost with the connection. */
  readonly unknown: number
  /** Those among them that turned out to be committed; the others were made again. */
  readonly found: number
}

interface Progress {
  acknowledged: number
  found: number
  isOver: boolean
}

/**
 * Has a mishap of these kinds befall a real ovsdb-server so many times while callers change its database without a pause. Fails
 * unless each change stands in the database exactly once, and the replica is what `ovsdb-client dump` prints.
 */
export async function survive(
  times: number,
  kinds: readonly Mishap[],
  seed: number,
  signal: AbortSignal,
): Promise<Survived> {
  const random = choicesFrom(seed)
  await using server = await startOvsdbServer()
  await using client = openOvs(server, { lock: 'kills' })
  await client.ready(signal)
  const mirror = new EventMirror()
  mirror.take([...client.replica.rows('Open_vSwitch')].map(after => ({ kind: 'insert', after })))
  client.subscribe(changes => mirror.take(changes))
  const progress: Progress = { acknowledged: 0, found: 0, isOver: false }
  const callers = Array.from({ length: callerCount }, (_, caller) => runCaller(client, caller, progress, signal))
  const failed = Promise.all(callers).then(() => undefined)
  failed.catch(() => undefined)
  for (let i = 0; i < times; i++) {
    const enough = progress.acknowledged + 1 + random.below(3 * callerCount)
    await Promise.race([until('callers go on', () => progress.acknowledged >= enough, { deadlineMs: 60_000 }), failed])
    // Within a transaction, or between two.
    for (let turns = random.below(4); turns > 0; turns--) await nextTurn()
    await mishaps[random.pick(kinds)](server)
  }
  progress.isOver = true
  const kept = (await Promise.all(callers)).flat()
  await expectExactly(client, server, progress.acknowledged, kept)
  assert.deepEqual(mirror.rows, rowsOf(client), 'the changes told lead to what the replica has')
  const { acknowledged, found } = progress
  return { acknowledged, found, unknown: client.readings.transactionsUnknown }
}

/** Adds bridges and removes some of them, each change with one increment of `next_cfg`. Resolves to the names that stay. */
async function runCaller(
  client: OvsTestClient,
  caller: number,
  progress: Progress,
  signal: AbortSignal,
): Promise<string[]> {
  const kept: string[] = []
  for (let i = 0; !progress.isOver; i++) {
    const name = `c${caller}-${i}`
    await carryOut(client, counted(addition(client, name), progress), { signal })
    progress.acknowledged++
    kept.push(name)
    // Few stay, so that the dump does not grow with the time that the run takes.
    const surplus = kept.length > 3 ? kept.shift() : undefined
    if (surplus !== undefined) {
      await carryOut(client, counted(removal(client, surplus), progress), { signal })
      progress.acknowledged++
    }
  }
  return kept
}

function counted(recipe: OvsRecipe, progress: Progress): OvsRecipe {
  return {
    ...recipe,
    find: replica => {
      const found = recipe.find?.(replica)
      if (found !== undefined) progress.found++
      return found
    },
  }
}

function addition(client: OvsTestClient, name: string): OvsRecipe {
  return {
    write(transaction) {
      const bridge = transaction.insert('Bridge', { name, external_ids: new Map([['made-by', 'kills']]) })
      transaction.mutate('Open_vSwitch', root(client), 'bridges', 'insert', [bridge])
      transaction.mutate('Open_vSwitch', root(client), 'next_cfg', '+=', 1)
      return () => 'done'
    },
    find: replica => (replica.find('Bridge', 'name', name) === undefined ? undefined : 'done'),
  }
}

function removal(client: OvsTestClient, name: string): OvsRecipe {
  return {
    write(transaction, replica) {
      const bridge = replica.find('Bridge', 'name', name)
      assert.ok(bridge, `${name} was acknowledged, and is gone`)
      transaction.mutate('Open_vSwitch', root(client), 'bridges', 'delete', [bridge._uuid])
      transaction.mutate('Open_vSwitch', root(client), 'next_cfg', '+=', 1)
      return () => 'done'
    },
    find: replica => (replica.find('Bridge', 'name', name) === undefined ? 'done' : undefined),
  }
}

async function expectExactly(
  client: OvsTestClient,
  server: PrivateOvsdbServer,
  acknowledged: number,
  kept: readonly string[],
): Promise<void> {
  const names = [...client.replica.rows('Bridge')].map(row => row.name)
  assert.deepEqual(names.sort(), [...kept].sort(), 'no acknowledged change is lost, and nothing else is there')
  const nextCfg = client.replica.get('Open_vSwitch', root(client))?.next_cfg
  assert.equal(nextCfg, acknowledged, 'no change was made twice')
  const [bridge, open] = [['name', 'external_ids', 'ports'] as const, ['bridges', 'next_cfg'] as const]
  assert.deepEqual(await dumpOf(server, 'Bridge', bridge), pickAll(client.replica.rows('Bridge'), bridge))
  assert.deepEqual(await dumpOf(server, 'Open_vSwitch', open), pickAll(client.replica.rows('Open_vSwitch'), open))
}

/** What `ovsdb-client dump` prints of a table, by uuid. */
async function dumpOf(server: PrivateOvsdbServer, table: 'Bridge' | 'Open_vSwitch', columns: readonly string[]) {
  const printed = await server.client(
    'dump',
    'Open_vSwitch',
    table,
    '_uuid',
    ...columns,
    '--format=json',
    '--data=json',
  )
  const parsed: unknown = JSON.parse(printed)
  assert.ok(isRecord(parsed) && isArray(parsed['data']) && isArray(parsed['headings']))
  const { headings, data } = parsed as { headings: string[]; data: unknown[][] }
  const rows = data.map(cells => {
    const row = Object.fromEntries(headings.map((heading, i) => [heading, cells[i]]))
    const values = columns.map(column => [column, comparable(decode(table, column, row[column]))])
    return [(row['_uuid'] as [string, string])[1], Object.fromEntries(values)] as const
  })
  return new Map(rows)
}

function decode(table: string, column: string, json: unknown): unknown {
  const type = schema.tables[table]?.columns[column]
  assert.ok(type)
  return decoderOf(type)(json)
}

function pickAll(rows: Iterable<object>, columns: readonly string[]) {
  return new Map(
    [...rows].map(row => {
      const all: Record<string, unknown> = { ...row }
      const values = columns.map(column => [column, comparable(all[column])])
      return [all['_uuid'], Object.fromEntries(values)] as const
    }),
  )
}

/** The order of a set is no part of it. */
function comparable(value: unknown): unknown {
  return isArray(value) ? new Set(value) : value
}

function rowsOf({ replica }: OvsTestClient): ReadonlyMap<string, unknown> {
  const rows = [...replica.rows('Open_vSwitch'), ...replica.rows('Bridge')]
  return new Map(rows.map(row => [row._uuid, row]))
}
