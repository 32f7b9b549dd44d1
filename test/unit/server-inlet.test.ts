import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { Inlet } from '../../src/server/inlet.js'
import { Writer } from '../../src/server/writer.js'
import { until } from '../support/until.js'

interface Pair extends AsyncDisposable {
  readonly client: Socket
  /** The server's end of it. */
  readonly socket: Socket
  readonly inlet: Inlet
  /** Lets what waits for its turn have one; whether there was any. */
  turn(): boolean
}

async function openPair(take?: (work: () => void) => void): Promise<Pair> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  assert(address !== null && typeof address === 'object')
  const accepted = once(server, 'connection')
  const client = connect(address.port, '127.0.0.1')
  const [socket] = (await accepted) as [Socket]
  const waiting: (() => void)[] = []
  const inlet = new Inlet(socket, new Writer(), take ?? (work => waiting.push(work)))
  return {
    client,
    socket,
    inlet,
    turn: () => {
      const work = waiting.shift()
      work?.()
      return work !== undefined
    },
    [Symbol.asyncDispose]: async () => {
      client.destroy()
      inlet.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

/** All that comes of an inlet, as long as somebody listens. */
function listen(inlet: Inlet) {
  const pieces: Buffer[] = []
  inlet.on('data', (piece: Buffer) => pieces.push(piece))
  return { pieces, bytes: () => Buffer.concat(pieces) }
}

test('what a client sends comes in turns, a piece in each, in its order and whole', async () => {
  await using pair = await openPair()
  const { pieces, bytes } = listen(pair.inlet)
  const sent = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251))
  pair.client.end(sent)
  let ended = false
  pair.inlet.once('end', () => (ended = true))
  await until('something waits', () => pair.inlet.isWaiting)
  assert.equal(bytes().length, 0)
  pair.turn()
  assert.equal(pieces.length, 1)
  assert(bytes().length < 20_000, `${bytes().length} bytes in one turn`)
  await until('it has ended', () => {
    pair.turn()
    return ended
  })
  assert(bytes().equals(sent))
})

test('a client that nobody has asked for more waits in its socket', async () => {
  await using pair = await openPair()
  const { bytes } = listen(pair.inlet)
  pair.inlet.pause()
  pair.client.write(Buffer.alloc(5_000_000))
  await until('what there is room for has come', () => !pair.turn() && pair.client.writableLength > 0)
  assert.equal(bytes().length, 0)
  assert(pair.inlet.readableLength < 300_000, `${pair.inlet.readableLength} bytes are held`)
  pair.inlet.resume()
  let left = 5_000_000
  pair.inlet.on('data', (piece: Buffer) => (left -= piece.length))
  await until('all has come', () => {
    while (pair.turn());
    return left === 0
  })
})

test('what has come while nothing was taken has its turns too', async () => {
  await using pair = await openPair()
  const { bytes } = listen(pair.inlet)
  const sent = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 251))
  pair.client.write(sent)
  await until('something waits', () => pair.inlet.isWaiting)
  pair.inlet.pause()
  while (pair.turn());
  assert.equal(pair.inlet.readableLength, 0)
  pair.inlet.resume()
  await until('it waits again', () => pair.inlet.isWaiting)
  assert.equal(bytes().length, 0)
  await until('all has come', () => {
    pair.turn()
    return bytes().length === sent.length
  })
  assert(bytes().equals(sent))
})

test('nothing is passed on but in a turn, one that begins at once too, when what takes it stops again and again', async () => {
  let inTurn = false
  await using pair = await openPair(work => {
    inTurn = true
    work()
    inTurn = false
  })
  pair.client.write(Buffer.alloc(300_000))
  await until('it has begun to come', () => pair.socket.readableLength > 0)
  let [total, outside] = [0, 0]
  pair.inlet.on('data', (piece: Buffer) => {
    total += piece.length
    if (!inTurn) outside += piece.length
    pair.inlet.pause()
    setImmediate(() => pair.inlet.resume())
  })
  await until('all has come', () => total === 300_000)
  assert.equal(outside, 0)
})

test('pieces that take long get smaller, and larger again', async () => {
  await using pair = await openPair()
  let busyMs = 3
  const sizes: number[] = []
  pair.inlet.on('data', (piece: Buffer) => {
    sizes.push(piece.length)
    const until = performance.now() + busyMs
    while (performance.now() < until);
  })
  pair.client.write(Buffer.alloc(400_000))
  await until('they are small', () => pair.turn() && (sizes.at(-1) ?? Number.POSITIVE_INFINITY) <= 512)
  busyMs = 0
  await until('they are large again', () => {
    pair.turn()
    return (sizes.at(-1) ?? 0) > 3_000
  })
})

for (const [what, count] of [
  ['a little', 5],
  ['much', 100],
] as const) {
  test(`${what} that is written in pieces leaves whole and in its order, and its end too`, async () => {
    await using pair = await openPair()
    const got: Buffer[] = []
    pair.client.on('data', (piece: Buffer) => got.push(piece))
    const pieces = Array.from({ length: count }, (_, i) => Buffer.alloc(1_000, i))
    for (const _ of ['first', 'second']) {
      pair.inlet.cork()
      for (const piece of pieces) pair.inlet.write(piece)
      pair.inlet.uncork()
    }
    pair.inlet.end()
    await once(pair.client, 'end')
    assert(Buffer.concat(got).equals(Buffer.concat([...pieces, ...pieces])))
  })
}

test('a client that goes while nothing is taken of it is noticed', async () => {
  await using pair = await openPair()
  listen(pair.inlet)
  pair.client.write('first')
  await until('something waits', () => pair.inlet.isWaiting)
  pair.inlet.pause()
  pair.turn()
  const closed = once(pair.inlet, 'close')
  pair.client.end('last')
  await closed
})

test('a connection that breaks is the end of its inlet, and the end of that cuts it', async () => {
  await using broken = await openPair()
  const closed = once(broken.inlet, 'close')
  broken.inlet.resume()
  broken.client.resetAndDestroy()
  await closed
  await using cut = await openPair()
  const gone = once(
    cut.client.on('error', () => {}),
    'close',
  )
  cut.client.resume()
  cut.inlet.destroy()
  await gone
})
