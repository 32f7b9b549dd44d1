import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { mostShaking, Strangers } from '../../src/server/strangers.js'
import { Turns } from '../../src/server/turns.js'
import { until } from '../support/until.js'

/** Strangers who begin to shake hands, and go no further. */
async function startStrangers() {
  const strangers = new Strangers({
    turns: new Turns(),
    limits: { handshakeTimeoutMs: 60_000 },
    onDefect: (_, error) => assert.fail(String(error)),
  })
  const begun = new Set<Socket>()
  const server = createServer(socket =>
    strangers.greet(
      socket,
      () => begun.add(socket),
      () => {},
    ),
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert(address !== null && typeof address === 'object')
  const { port } = address
  return {
    begun,
    /** Both ends of a connection over which a stranger says something. */
    speak: async (said: Buffer) => {
      const accepted = once(server, 'connection')
      const client = connect(port, '127.0.0.1')
      client.on('error', () => {}).write(said)
      const [socket] = (await accepted) as [Socket]
      return { client, socket }
    },
    [Symbol.dispose]: () => {
      strangers.closeAll()
      server.close()
    },
  }
}

test('of who leaves before it is their turn, nothing is kept', async () => {
  setFlagsFromString('--expose-gc')
  const heldBytes = () => {
    runInNewContext('gc(); gc()')
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
  using server = await startStrangers()
  for (let i = 0; i < mostShaking; i++) await server.speak(Buffer.alloc(1))
  await until('no more may begin', () => server.begun.size === mostShaking)
  const before = heldBytes()
  const said = Buffer.alloc(10_000)
  for (let i = 0; i < 300; i++) {
    const { client, socket } = await server.speak(said)
    await until('it has been heard', () => socket.readableLength > 0)
    client.resetAndDestroy()
    await until('it has left', () => socket.closed)
  }
  const held = heldBytes() - before
  assert(held < 1_000_000, `${held} bytes`)
})
