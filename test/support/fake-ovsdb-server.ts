import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { newFramer } from '../../src/ovsdb/framing.js'
import { isArray, isRecord } from '../../src/ovsdb/json.js'

/** A request as it came, and the connection to answer on. */
export interface Received {
  readonly method: string
  readonly params: readonly unknown[]
  readonly id: unknown
  readonly socket: Socket
  answer(result: unknown): void
  refuse(error: unknown): void
}

/** A server on a real socket that says what the test tells it to. */
export interface FakeOvsdbServer extends AsyncDisposable {
  readonly socketPath: string
  /** Messages that are no requests: answers to what the test wrote. */
  readonly answers: unknown[]
  readonly connectionCount: number
  /** Ends the connections that there are. */
  disconnect(): void
}

export async function startFakeOvsdbServer(onRequest: (request: Received) => void): Promise<FakeOvsdbServer> {
  const directory = await mkdtemp(join(tmpdir(), 'ovsdb-fake-'))
  const socketPath = join(directory, 'db.sock')
  const sockets = new Set<Socket>()
  const answers: unknown[] = []
  let connectionCount = 0
  const server = createServer(socket => {
    connectionCount++
    sockets.add(socket)
    const framer = newFramer()
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
    socket.on('data', (chunk: Buffer) => {
      for (const message of framer.push(chunk)) {
        const request = readRequest(message, socket)
        if (request === undefined) answers.push(message)
        else onRequest(request)
      }
    })
  })
  server.listen(socketPath)
  await once(server, 'listening')
  return {
    socketPath,
    answers,
    get connectionCount() {
      return connectionCount
    },
    disconnect: () => {
      for (const socket of sockets) socket.destroy()
    },
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

function readRequest(message: unknown, socket: Socket): Received | undefined {
  if (!isRecord(message) || typeof message['method'] !== 'string' || !isArray(message['params'])) return undefined
  const { method, params, id } = message
  const reply = (body: object) => socket.write(JSON.stringify({ id, ...body }))
  return {
    method,
    params,
    id,
    socket,
    answer: result => reply({ result, error: null }),
    refuse: error => reply({ result: null, error }),
  }
}
