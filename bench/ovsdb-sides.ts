/**
 * The sides of the OVSDB benches that run on Node.js, each in a process of its own:
 *   node --expose-gc ovsdb-sides.js client-load|raw-load|client-transact|raw-transact|raw-blind-transact SOCKET COUNT IN-FLIGHT
 * Prints a {@link SideResult}.
 */
import { readFileSync } from 'node:fs'
import { createConnection, type Socket } from 'node:net'
import { schema, type Tables } from '../src/gen/vswitch.js'
import { isRecord } from '../src/lib/json-rpc.js'
import { newTransaction, openOvsdb } from '../src/ovsdb/index.js'

/** What one side took. */
export interface SideResult {
  readonly ms: number
  /** By which the process has grown, VmRSS of proc(5). */
  readonly grownBytes: number
}

const [side = '', socketPath = '', count = '', inFlight = ''] = process.argv.slice(2)
const allColumns = Object.fromEntries(
  Object.entries(schema.tables).map(([name, { columns }]) => [name, Object.keys(columns)]),
)

/** Transactions before the measurement: compiled code is compared with compiled code. */
const warmUp = 5_000

process.stdout.write(`${JSON.stringify(await run())}\n`)
process.exit(0)

function run(): Promise<SideResult> {
  switch (side) {
    case 'client-load':
      return measured(loadByClient)
    case 'raw-load':
      return measured(loadByHand)
    case 'client-transact':
      return transactByClient(Number(count), Number(inFlight))
    case 'raw-transact':
      return transactByHand(Number(count), true)
    case 'raw-blind-transact':
      return transactByHand(Number(count), false)
    default:
      throw new Error(`no side ${side}`)
  }
}

async function measured(work: () => Promise<unknown>): Promise<SideResult> {
  const before = residentBytes()
  const startedAt = performance.now()
  const kept = await work()
  const ms = performance.now() - startedAt
  gc?.()
  const grownBytes = residentBytes() - before
  if (kept === undefined) throw new Error('nothing was loaded')
  return { ms, grownBytes }
}

function residentBytes(): number {
  const [, kibibytes = ''] = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  return Number(kibibytes) * 1024
}

function openClient() {
  const endpoint = { kind: 'unix', path: socketPath } as const
  const monitor = side === 'client-load' ? allColumns : { Open_vSwitch: ['next_cfg'] as const }
  return openOvsdb<Tables, typeof monitor>({ endpoint, schema, monitor })
}

async function loadByClient(): Promise<unknown> {
  const client = openClient()
  await client.ready(AbortSignal.timeout(600_000))
  return client
}

/** One request, and `JSON.parse` of the whole answer. */
async function loadByHand(): Promise<unknown> {
  const requests = Object.fromEntries(Object.entries(allColumns).map(([table, columns]) => [table, [{ columns }]]))
  const noTransaction = '00000000-0000-0000-0000-000000000000'
  const socket = createConnection(socketPath)
  const chunks: Buffer[] = []
  socket.write(
    JSON.stringify({ id: 1, method: 'monitor_cond_since', params: ['Open_vSwitch', 'm', requests, noTransaction] }),
  )
  return new Promise(resolve => {
    socket.on('data', chunk => {
      chunks.push(chunk)
      // The one message of the connection: it is whole when it can be read, and can only be where its last brace is.
      if (!chunk.subarray(-20).toString().endsWith('"error":null}')) return
      resolve(JSON.parse(Buffer.concat(chunks).toString('utf8')))
    })
  })
}

async function transactByClient(total: number, most: number): Promise<SideResult> {
  await using client = openClient()
  await client.ready(AbortSignal.timeout(600_000))
  const [root] = client.replica.rows('Open_vSwitch')
  if (root === undefined) throw new Error('the database has no root')
  const { signal } = new AbortController()
  const one = () => {
    const transaction = newTransaction(schema)
    transaction.mutate('Open_vSwitch', root._uuid, 'next_cfg', '+=', 1)
    return client.transact(transaction, { signal })
  }
  const commit = async (transactions: number) => {
    let left = transactions
    const caller = async () => {
      while (left-- > 0) await one()
    }
    await Promise.all(Array.from({ length: most }, caller))
  }
  await commit(warmUp)
  return await measured(async () => {
    await commit(total)
    return client
  })
}

/** The same requests, written at once, their answers read and counted; with the updates that a replica needs, or without. */
async function transactByHand(total: number, isFollowed: boolean): Promise<SideResult> {
  const socket = createConnection(socketPath)
  const answers = counted(socket)
  const select = { op: 'select', table: 'Open_vSwitch', where: [], columns: ['_uuid'] }
  socket.write(JSON.stringify({ id: 0, method: 'transact', params: ['Open_vSwitch', select] }))
  const where = [['_uuid', '==', rootUuid(await answers(1))]]
  if (isFollowed) {
    const monitor = { Open_vSwitch: [{ columns: ['next_cfg'] }] }
    socket.write(JSON.stringify({ id: 0, method: 'monitor_cond', params: ['Open_vSwitch', 'm', monitor] }))
    await answers(1)
  }
  const operation = { op: 'mutate', table: 'Open_vSwitch', where, mutations: [['next_cfg', '+=', 1]] }
  const commit = (transactions: number) => {
    for (let id = 1; id <= transactions; id++) {
      socket.write(JSON.stringify({ id, method: 'transact', params: ['Open_vSwitch', operation] }))
    }
    return answers(transactions)
  }
  await commit(warmUp)
  return measured(() => commit(total))
}

function rootUuid(answer: unknown): unknown {
  const results: unknown = isRecord(answer) ? answer['result'] : undefined
  const selected: unknown = Array.isArray(results) ? results[0] : undefined
  const rows: unknown = isRecord(selected) ? selected['rows'] : undefined
  const row: unknown = Array.isArray(rows) ? rows[0] : undefined
  return isRecord(row) ? row['_uuid'] : undefined
}

/** Resolves to the last of so many answers. Messages are told apart by their ends, which is enough for these. */
function counted(socket: Socket): (count: number) => Promise<unknown> {
  let rest = ''
  let seen = 0
  let last: unknown
  let wanted = Number.POSITIVE_INFINITY
  let done: (answer: unknown) => void = () => {}
  socket.setEncoding('utf8').on('data', (text: string) => {
    const messages = (rest + text).split(/(?<=\})(?=\{"id":)/)
    rest = ''
    for (const message of messages) {
      const parsed: unknown = whole(message)
      if (parsed === undefined) rest = message
      else if (isRecord(parsed) && parsed['id'] !== null) {
        last = parsed
        seen++
      }
    }
    if (seen >= wanted) done(last)
  })
  return count =>
    new Promise(resolve => {
      wanted = count
      seen = 0
      done = resolve
    })
}

function whole(message: string): unknown {
  try {
    return JSON.parse(message)
  } catch {
    return undefined
  }
}
