import { createConnection } from 'node:net'
import { isRecord } from '../src/lib/json-rpc.js'
import { newFramer } from '../src/ovsdb/framing.js'

/** A raw connection to ovsdb-server: no schema, no replica. */
export interface RawDatabase extends Disposable {
  /** One transaction at a time; throws unless all of it succeeds. */
  transact(operations: readonly unknown[]): Promise<readonly unknown[]>
}

/** What was asked of ovs-vswitchd and what it has applied, as far as the connection monitors them. */
export interface Configuration {
  readonly next_cfg?: number
  readonly cur_cfg?: number
}

/**
 * Opens a connection that monitors these columns of Open_vSwitch (RFC 7047 §4.1.5) and nothing else. `onChange` is told of each change,
 * and of what stands at first.
 */
export async function openRawDatabase(
  endpoint: string,
  columns: readonly (keyof Configuration)[],
  onChange: (now: Configuration) => void,
): Promise<RawDatabase> {
  const socket = createConnection(endpoint.slice('unix:'.length))
  const framer = newFramer()
  let answer: (result: unknown) => void = () => {}
  let isOver = false
  // Who waits to be told of something has no request that could fail: the program ends, as it does with an error.
  socket.on('close', () => {
    if (!isOver) throw new Error('ovsdb-server has closed the connection')
  })
  socket.on('data', chunk => {
    for (const message of framer.push(chunk)) {
      if (!isRecord(message)) continue
      if (message['method'] === 'echo') {
        socket.write(JSON.stringify({ id: message['id'], result: message['params'], error: null }))
      } else if (message['method'] === 'update') onChange(configurationOf((message['params'] as unknown[])[1]))
      else answer(message['result'])
    }
  })
  const ask = (method: string, params: readonly unknown[]) =>
    new Promise<unknown>(resolve => {
      answer = resolve
      socket.write(JSON.stringify({ id: 1, method, params }))
    })
  onChange(configurationOf(await ask('monitor', ['Open_vSwitch', null, { Open_vSwitch: { columns } }])))
  return {
    transact: async operations => {
      const results = await ask('transact', ['Open_vSwitch', ...operations])
      if (!Array.isArray(results) || results.some(result => isRecord(result) && 'error' in result)) {
        throw new Error(`ovsdb-server refused: ${JSON.stringify(results)}`)
      }
      return results as readonly unknown[]
    },
    [Symbol.dispose]: () => {
      isOver = true
      socket.destroy()
    },
  }
}

/** The new row of table-updates; Open_vSwitch has one. */
function configurationOf(updates: unknown): Configuration {
  const [row] = Object.values((updates as { Open_vSwitch: Record<string, { new: Configuration }> }).Open_vSwitch)
  if (row === undefined) throw new Error(`no row in ${JSON.stringify(updates)}`)
  return row.new
}

export function firstRow(result: unknown): Readonly<Record<string, unknown>> {
  const rows: unknown = isRecord(result) ? result['rows'] : undefined
  const row: unknown = Array.isArray(rows) ? rows[0] : undefined
  if (!isRecord(row)) throw new Error(`no row in ${JSON.stringify(result)}`)
  return row
}
