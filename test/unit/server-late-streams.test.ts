import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import type { ServerHttp2Stream } from 'node:http2'
import { connect, Server as NetServer } from 'node:net'
import { test } from 'node:test'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import { pino } from 'pino'
import { takeLateStreams } from '../../src/server/late-streams.js'
import { callBlock, frame, greeting } from '../support/http2-frames.js'
import { until } from '../support/until.js'

interface Http2 {
  readonly http2: NetServer
  /** Lines of the log, parsed. */
  readonly lines: unknown[]
}

/** What grpc-js has for HTTP/2, taking late streams. */
function http2Of(server: Server): Http2 {
  const lines: unknown[] = []
  takeLateStreams(server, pino({ base: null }, { write: (line: string) => lines.push(JSON.parse(line)) }))
  const create: unknown = Reflect.get(server, 'createHttp2Server')
  assert(typeof create === 'function')
  const http2: unknown = Reflect.apply(create, server, [ServerCredentials.createInsecure()])
  assert(http2 instanceof NetServer)
  return { http2, lines }
}

test('streams that begin after a goodbye are taken, and the connection ends when the one before it is over', async () => {
  const { http2, lines } = http2Of(new Server())
  const streams = new Map<number | undefined, ServerHttp2Stream>()
  http2.removeAllListeners('stream').on('stream', (stream: ServerHttp2Stream) => {
    stream.on('error', () => {})
    streams.set(stream.id, stream)
  })
  http2.listen(0, '127.0.0.1')
  await once(http2, 'listening')
  const address = http2.address()
  assert(address !== null && typeof address === 'object')
  const client = connect(address.port, '127.0.0.1')
  const gone = once(client.resume(), 'close')
  const headers = (id: number) => frame('headers', 5, id, callBlock('/test.Echo/Echo'))
  client.write(Buffer.concat([greeting, headers(1), frame('goaway', 0, 0, Buffer.alloc(8)), headers(3)]))
  await until('both have begun', () => streams.size === 2)
  assert.deepEqual([...streams.keys()], [1, 3])
  streams.get(1)?.respond({ ':status': 200 }, { endStream: true })
  await gone
  assert.deepEqual(lines, [])
  http2.close()
})

test('a Node.js that has sessions of another make is told of once', () => {
  const server = new Server()
  Reflect.set(server, 'createHttp2Server', () => new NetServer())
  const { http2, lines } = http2Of(server)
  for (let i = 0; i < 3; i++) http2.emit('session', new EventEmitter())
  assert.equal(lines.length, 1)
  assert.match(JSON.stringify(lines), /"level":40.*"node":"v\d+/)
})
