import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import { type Collector, connectUdp, openCollector, Writer } from '../../src/netflow/index.js'
import { makeDatagram } from '../support/netflow.js'
import { until } from '../support/until.js'

const engine = { type: 1, id: 2 }

interface Sender extends Disposable {
  send(bytes: Buffer): Promise<void>
}

async function openSender(to: Collector, from = '127.0.0.1'): Promise<Sender> {
  const socket: Socket = createSocket('udp4')
  socket.bind(0, from)
  await once(socket, 'listening')
  const port = Number(to.address.split(':')[1])
  socket.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  return {
    send: bytes =>
      new Promise((resolve, reject) => {
        socket.send(bytes, error => (error === null ? resolve() : reject(error)))
      }),
    [Symbol.dispose]: () => void socket.close(),
  }
}

test('what comes is counted as what it is, and nothing but the own engine goes on', async () => {
  const told: number[] = []
  await using collector = await openCollector({ engine, onDatagram: ({ firstFlow }) => told.push(firstFlow) })
  using sender = await openSender(collector)
  assert.match(collector.address, /^127\.0\.0\.1:\d+$/)
  const version9 = makeDatagram({ engine, firstFlow: 1 })
  version9.writeUInt16BE(9, 0)
  const truncated = makeDatagram({ engine, firstFlow: 1, count: 2 }).subarray(0, 100)
  for (const bytes of [Buffer.alloc(0), Buffer.from('x'), version9, truncated, Buffer.alloc(60_000, 5)]) {
    await sender.send(bytes)
  }
  for (const foreign of [
    { type: 2, id: 1 },
    { type: 1, id: 3 },
    { type: 0, id: 0 },
  ]) {
    await sender.send(makeDatagram({ engine: foreign, firstFlow: 77 }))
  }
  using elsewhere = await openSender(collector, '127.0.0.2')
  await elsewhere.send(makeDatagram({ engine, firstFlow: 77 }))
  // Two flows each, over the wrap, and six are missing.
  const numbers = [0xfffffffd, 0xffffffff, 1, 9, 11]
  for (const firstFlow of numbers) {
    await sender.send(makeDatagram({ engine, firstFlow, count: 2, packets: 5, octets: 500 }))
  }
  // The exporter begins anew.
  await sender.send(makeDatagram({ engine, firstFlow: 0 }))
  await sender.send(makeDatagram({ engine, firstFlow: 1 }))
  await until('all have come', () => told.length === 7)
  assert.deepEqual(told, [...numbers, 0, 1])
  assert.deepEqual(collector.counters, {
    flows: 12,
    packets: 52,
    octets: 5_196,
    datagrams: 7,
    datagramBytes: 5 * 120 + 2 * 72,
    lostFlows: 6,
    malformedDatagrams: 5,
    foreignDatagrams: 4,
  })
})

test('an exporter that begins anew after 2^31 flows has lost none', async () => {
  let told = 0
  await using collector = await openCollector({ engine, onDatagram: () => told++ })
  using sender = await openSender(collector)
  await sender.send(makeDatagram({ engine, firstFlow: 0x90000000, uptimeMs: 5_000_000 }))
  await sender.send(makeDatagram({ engine, firstFlow: 0, uptimeMs: 2_000 }))
  await sender.send(makeDatagram({ engine, firstFlow: 1, uptimeMs: 3_000 }))
  await until('all have come', () => told === 3)
  assert.equal(collector.counters.lostFlows, 0)
})

test('a writer that sends to the collector that feeds it does not go round in a circle', async () => {
  await using collector = await openCollector({ engine, onDatagram: () => {} })
  using sender = await openSender(collector)
  const port = Number(collector.address.split(':')[1])
  for (const host of ['127.0.0.1', 'localhost']) {
    const spec = { target: { kind: 'udp', host, port }, format: 'raw', gzip: false } as const
    collector.add(new Writer({ spec, open: signal => connectUdp('127.0.0.1', port, signal) }))
  }
  for (let i = 0; i < 3; i++) await sender.send(makeDatagram({ engine, firstFlow: i, count: 1 }))
  await until('all that was sent on has come back', () => collector.counters.foreignDatagrams === 6)
  assert.equal(collector.counters.flows, 3)
})

test('50,000 flows a second are taken in, or said to be lost', async () => {
  await using collector = await openCollector({ engine, onDatagram: () => {} })
  using sender = await openSender(collector)
  const count = 30
  let sent = 0
  const send = async () => {
    await sender.send(makeDatagram({ engine, firstFlow: sent, count }))
    sent += count
  }
  // 510 flows every 10 ms; a late tick is made up for.
  const startedAtMs = performance.now()
  for (let tick = 1; tick <= 200; tick++) {
    for (let i = 0; i < 17; i++) await send()
    const waitMs = startedAtMs + tick * 10 - performance.now()
    if (waitMs > 0) await new Promise(resolve => setTimeout(resolve, waitMs))
  }
  await until('each is told of', async () => {
    const { flows, lostFlows } = collector.counters
    if (flows + lostFlows === sent) return true
    // What was lost shows by the next that comes.
    await send()
    return false
  })
  assert.equal(collector.counters.flows, collector.counters.datagrams * count)
  assert.equal(collector.counters.malformedDatagrams, 0)
})
