import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Netflow, NetflowWriter } from '../../src/gen/ovs/bridge/v1/netflow.js'
import { decodeDatagram, type Engine } from '../../src/netflow/index.js'
import { floodFlows, flowsPerDatagram } from '../support/flow-flood.js'
import { laneTest } from '../support/lane.js'
import { mountTmpfs } from '../support/mounts.js'
import { captureDirectory, makeDatagram, udpSocket } from '../support/netflow.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

/** Of one that is full. */
const datagramBytes = 24 + flowsPerDatagram * 48

/** Datagrams of the test's own making towards the collector of br0. */
interface Exporter extends Disposable {
  readonly engine: Engine
  /** Of the collector. */
  readonly port: number
  /** Flows sent so far by {@link sendFull}, or said to be by {@link passOver}. */
  readonly sentFlows: number
  send(bytes: Buffer): Promise<void>
  /** Goes on as if so many flows had been sent. */
  passOver(flows: number): void
  /** As many flows as a datagram holds, which follow those before. */
  sendFull(): Promise<void>
  /** What is counted, once it accounts for every flow that was sent. */
  counted(): Promise<Netflow>
}

/** Has br0 a NetFlow; the first flow that is sent has the number `firstFlow`. */
async function openExporter({ api, ovs }: ServedTestbed, firstFlow = 0): Promise<Exporter> {
  const { netflow: created } = await api.createNetflow()
  const [row] = await ovs.select('NetFlow')
  const port = Number(created?.collector.split(':')[1])
  const engine = { type: Number(row?.['engine_type']), id: Number(row?.['engine_id']) }
  const socket = createSocket('udp4')
  socket.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  const send = (bytes: Buffer) =>
    new Promise<void>((resolve, reject) => {
      socket.send(bytes, error => (error === null ? resolve() : reject(error)))
    })
  let sentFlows = 0
  return {
    engine,
    port,
    passOver: flows => {
      sentFlows += flows
    },
    get sentFlows() {
      return sentFlows
    },
    send,
    sendFull: async () => {
      await send(makeDatagram({ engine, firstFlow: firstFlow + sentFlows, count: flowsPerDatagram }))
      sentFlows += flowsPerDatagram
    },
    counted: () =>
      until(`all of ${sentFlows} flows are counted`, async () => {
        const { netflow } = await api.getNetflow({ bridge: 'br0' })
        return netflow && netflow.flows + netflow.lostFlows === BigInt(sentFlows) ? netflow : undefined
      }),
    [Symbol.dispose]: () => void socket.close(),
  }
}

async function sendFrom(address: string, port: number, bytes: Buffer): Promise<void> {
  const socket = createSocket('udp4')
  socket.bind(0, address)
  await once(socket, 'listening')
  await new Promise<void>((resolve, reject) => {
    socket.send(bytes, port, '127.0.0.1', error => (error === null ? resolve() : reject(error)))
  })
  socket.close()
}

laneTest(
  'broken and foreign datagrams are counted, numbers may wrap, and who does not read learns what was lost',
  {},
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api } = bed
    using idle = api.watchFlows()
    await idle.next('the subscription')
    using exporter = await openExporter(bed, 2 ** 32 - flowsPerDatagram / 2)
    const { engine } = exporter
    const good = makeDatagram({ engine, firstFlow: 1, count: 2 })
    const ofVersion9 = Buffer.from(good)
    ofVersion9.writeUInt16BE(9, 0)
    const broken = [Buffer.from('not NetFlow'), Buffer.alloc(0), good.subarray(0, -1), good.subarray(0, 23), ofVersion9]
    for (const bytes of broken) await exporter.send(bytes)
    await exporter.send(makeDatagram({ engine: { type: engine.type ^ 1, id: engine.id }, firstFlow: 1 }))
    await exporter.send(makeDatagram({ engine: { type: engine.type, id: engine.id ^ 1 }, firstFlow: 1 }))
    await sendFrom('127.0.0.2', exporter.port, good)

    // The number of flows passes 2^32 within the first of these.
    await exporter.sendFull()
    await exporter.sendFull()
    const wrapped = await exporter.counted()
    assert.deepEqual([wrapped.flows, wrapped.lostFlows], [2n * BigInt(flowsPerDatagram), 0n])
    assert.deepEqual([wrapped.malformedDatagrams, wrapped.foreignDatagrams], [BigInt(broken.length), 3n])
    // One that never comes.
    exporter.passOver(flowsPerDatagram)
    await exporter.sendFull()
    assert.equal((await exporter.counted()).lostFlows, BigInt(flowsPerDatagram))

    const netflow = await until('far more is told than a queue holds, and what was lost is known', async () => {
      for (let i = 0; i < (exporter.sentFlows < 120_000 ? 100 : 1); i++) await exporter.sendFull()
      const { netflow } = await api.getNetflow({ bridge: 'br0' })
      const sent = exporter.sentFlows
      return sent > 120_000 && netflow && netflow.flows + netflow.lostFlows === BigInt(sent) ? netflow : undefined
    })
    let [told, lost] = [0n, 0n]
    await until('flows and losses are all that was told', async () => {
      const message = await idle.next()
      told += BigInt(message.flows.length)
      lost += message.lost
      return told + lost === netflow.flows
    })
    assert.ok(lost > 0n && told >= 10_000n, `${told} told, ${lost} lost`)
  },
)

/** A TCP peer that takes a connection, and nothing of what comes over it. */
async function listenWithoutReading(): Promise<AsyncDisposable & { readonly port: number }> {
  const sockets: Socket[] = []
  const server = createServer(socket => {
    socket.on('error', () => {})
    sockets.push(socket.pause())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

const flowsPerSecond = 50_000
const floodSeconds = 10

/** All flows of a file that a raw writer has written; fails for one that is cut. */
function readRaw(path: string): number {
  const bytes = readFileSync(path)
  assert.equal(bytes.length % datagramBytes, 0, `${path} has ${bytes.length} bytes`)
  for (let at = 0; at < bytes.length; at += datagramBytes) {
    assert.ok(decodeDatagram(bytes.subarray(at, at + datagramBytes)).ok, `a datagram at ${at}`)
  }
  return (bytes.length / datagramBytes) * flowsPerDatagram
}

laneTest(
  'of 50,000 flows a second each is counted or said to be lost, and a TCP peer that is stuck costs the file nothing',
  // The flows are made up: no datapath has a part in it.
  { isLong: true, only: 'userspace', timeoutMs: 180_000 },
  async context => {
    using captures = captureDirectory()
    await using bed = await startServedTestbed(context.signal, ...captures.flags)
    const { api } = bed
    await using stuck = await listenWithoutReading()
    using exporter = await openExporter(bed)
    await api.addNetflowWriter({ writer: `tcp:127.0.0.1:${stuck.port}` })
    await api.addNetflowWriter({ writer: 'file:flows' })
    const { engine, port } = exporter
    const { sentFlows, elapsedMs } = await floodFlows({ engine, port, flowsPerSecond, seconds: floodSeconds })
    exporter.passOver(sentFlows)
    const reached = Math.floor((sentFlows / elapsedMs) * 1_000)
    context.diagnostic(`${sentFlows} flows sent in ${Math.round(elapsedMs)} ms, ${reached} a second`)
    const settled = (what: string) =>
      until(
        what,
        async () => {
          const { netflow } = await api.getNetflow({ bridge: 'br0' })
          const find = (name: string) => netflow?.writers.find(writer => writer.name.startsWith(name))
          const [tcp, file] = [find('tcp:'), find('file:')]
          assert.ok(netflow && tcp && file)
          const isCounted = netflow.flows + netflow.lostFlows === BigInt(exporter.sentFlows)
          const isWritten = file.flows + file.droppedFlows === netflow.flows
          if (isCounted && isWritten && tcp.droppedFlows > 0n) return { netflow, tcp, file }
          // What was lost last shows by what comes next, and the buffers of some kernels take much.
          const missing = tcp.droppedFlows === 0n ? 1_000 : isCounted ? 0 : 1
          for (let i = 0; i < missing; i++) await exporter.sendFull()
          return undefined
        },
        { deadlineMs: 60_000 },
      )
    const flooded = await settled('every flow is counted, the stuck writer drops, and nothing waits for the file')
    const drops = udpSocket(port)?.drops ?? 0
    context.diagnostic(
      `${flooded.netflow.flows} flows taken, ${flooded.netflow.lostFlows} lost in ${drops} datagrams that the kernel ` +
        `dropped, ${flooded.tcp.droppedFlows} dropped for the stuck peer, ${flooded.file.droppedFlows} for the file`,
    )
    assert.equal(Number(flooded.netflow.lostFlows), drops * flowsPerDatagram)
    // A slow disk may be too slow for the flood. What comes no faster than it is written is in the file, all of it.
    for (let i = 0; i < 100; i++) await exporter.sendFull()
    const { netflow, tcp, file } = await settled('what came after the flood is in the file')
    assert.ok(netflow.flows > flooded.netflow.flows && tcp.droppedFlows > flooded.tcp.droppedFlows)
    assert.deepEqual([file.droppedFlows, file.problem], [flooded.file.droppedFlows, ''])
    assert.equal(readRaw(join(captures.path, 'flows')), Number(file.flows))
    assert.equal(tcp.flows + tcp.droppedFlows + tcp.queuedFlows, netflow.flows)
    assert.equal(tcp.problem, 'flows come faster than they are taken')
  },
)

laneTest(
  'a file on a full disk holds whole datagrams only, and goes on when there is room; one that is removed is said to be',
  { only: 'userspace' },
  async context => {
    using captures = captureDirectory()
    using _disk = mountTmpfs(captures.path, 256 * 1_024)
    await using bed = await startServedTestbed(context.signal, ...captures.flags)
    const { api } = bed
    using exporter = await openExporter(bed)
    await api.addNetflowWriter({ writer: 'file:flows' })
    const other = join(captures.path, 'other')
    writeFileSync(other, Buffer.alloc(128 * 1_024))
    const settled = (what: string, isReached: (writer: NetflowWriter) => boolean) =>
      until(what, async () => {
        const [writer] = (await exporter.counted()).writers
        if (writer !== undefined && writer.queuedFlows === 0n && isReached(writer)) return writer
        // More than a page of 4 KiB, into which no number of datagrams fits.
        if (writer?.queuedFlows === 0n) for (let i = 0; i < 20; i++) await exporter.sendFull()
        return undefined
      })
    await settled('it says why it does not write', ({ problem }) => problem.startsWith('ENOSPC'))
    const full = await settled('it has dropped some', ({ droppedFlows }) => droppedFlows > 0n)
    assert.equal(readRaw(join(captures.path, 'flows')), Number(full.flows))
    rmSync(other)
    const after = await settled('it goes on', ({ flows }) => flows > full.flows + 1_000n)
    assert.equal(readRaw(join(captures.path, 'flows')), Number(after.flows))
    // Without a flow that is lost silently, or a file of that name that nobody asked for.
    rmSync(join(captures.path, 'flows'))
    const removed = await until('it says that the file was removed', async () => {
      await exporter.sendFull()
      const [writer] = (await exporter.counted()).writers
      return writer?.problem === 'the file was removed' && writer.droppedFlows > after.droppedFlows ? writer : undefined
    })
    assert.equal(removed.flows + removed.droppedFlows + removed.queuedFlows, (await exporter.counted()).flows)
    assert.deepEqual(readdirSync(captures.path), [])
  },
)
