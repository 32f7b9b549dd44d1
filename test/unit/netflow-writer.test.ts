import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { gunzipSync } from 'node:zlib'
import { createFileBelow, reopenFileBelow } from '../../src/lib/safe-file.js'
import {
  connectTcp,
  connectUdp,
  type Datagram,
  decodeDatagram,
  fileSink,
  formatFlow,
  parseWriterTarget,
  Writer,
  type WriterFormat,
  type WriterSpec,
  type WriterTarget,
} from '../../src/netflow/index.js'
import { maxQueuedDatagrams } from '../../src/netflow/writer.js'
import { makeDatagram } from '../support/netflow.js'
import { until } from '../support/until.js'

function datagram(firstFlow: number, count = 30): Datagram {
  const decoded = decodeDatagram(makeDatagram({ engine: { type: 1, id: 2 }, firstFlow, count }))
  assert(decoded.ok)
  return decoded.value
}

type FileTarget = Extract<WriterTarget, { readonly kind: 'file' }>
type PeerTarget = Exclude<WriterTarget, FileTarget>

function fileTarget(name: string): FileTarget {
  const result = parseWriterTarget(`file:${name}`)
  assert(result.ok && result.value.kind === 'file')
  return result.value
}

function peerTarget(kind: PeerTarget['kind'], port: number): PeerTarget {
  return { kind, host: '127.0.0.1', port }
}

interface FileWriter extends AsyncDisposable {
  readonly writer: Writer
  readonly path: string
  /** The file as it is. */
  content(): Buffer
}

function openFileWriter(format: WriterFormat, gzip: boolean): FileWriter {
  const directory = mkdtempSync(join(tmpdir(), 'writer-'))
  const to = fileTarget('flows')
  let made = false
  const writer = new Writer({
    spec: { target: to, format, gzip },
    open: async () => {
      const file = await (made ? reopenFileBelow : createFileBelow)(directory, to.path)
      made = true
      return fileSink(file)
    },
  })
  return {
    writer,
    path: join(directory, 'flows'),
    content: () => readFileSync(join(directory, 'flows')),
    [Symbol.asyncDispose]: async () => {
      await writer[Symbol.asyncDispose]()
      rmSync(directory, { recursive: true })
    },
  }
}

function openTcpWriter(port: number, spec: Omit<WriterSpec, 'target'>): Writer {
  const to = peerTarget('tcp', port)
  return new Writer({
    spec: { ...spec, target: to },
    open: signal => connectTcp(to.host, to.port, signal),
    retryMs: 10,
  })
}

/** A TCP server of this host. */
interface Peer extends Disposable {
  readonly port: number
  readonly connections: readonly Socket[]
}

async function listen(onConnection: (socket: Socket) => void, port = 0): Promise<Peer> {
  const connections: Socket[] = []
  const server = createServer(socket => {
    connections.push(socket)
    socket.on('error', () => {})
    onConnection(socket)
  })
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    connections,
    [Symbol.dispose]: () => {
      server.close()
      for (const socket of connections) socket.destroy()
    },
  }
}

for (const format of ['raw', 'ascii'] as const) {
  for (const gzip of [false, true]) {
    test(`a file holds all flows in order: ${format}${gzip ? ', gzip' : ''}`, async () => {
      await using file = openFileWriter(format, gzip)
      const all = Array.from({ length: 200 }, (_, i) => datagram(i, 1 + (i % 30)))
      const flows = all.reduce((sum, one) => sum + one.flows.length, 0)
      for (const one of all.slice(0, 100)) file.writer.offer(one)
      await until('the first half is written', () => file.writer.counters.queuedFlows === 0)
      for (const one of all.slice(100)) file.writer.offer(one)
      await file.writer[Symbol.asyncDispose]()
      const content = gzip ? gunzipSync(file.content()) : file.content()
      const whole =
        format === 'raw'
          ? Buffer.concat(all.map(({ bytes }) => bytes))
          : Buffer.from(all.flatMap(one => one.flows.map(formatFlow)).join(''))
      assert.ok(content.equals(whole))
      const bytes = file.content().length
      assert.deepEqual(file.writer.counters, { flows, bytes, droppedFlows: 0, queuedFlows: 0, problem: '' })
    })
  }
}

test('a stuck TCP peer costs the file beside it nothing; its own queue is bounded, and what finds it full is counted', async () => {
  using peer = await listen(socket => void socket.pause())
  await using file = openFileWriter('raw', false)
  await using stuck = openTcpWriter(peer.port, { format: 'raw', gzip: false })
  await until('it is connected', () => peer.connections.length === 1)
  let offered = 0
  let taken = -1
  // What the kernel's buffers take is taken; then nothing more, however long.
  await until('nothing more is taken', async () => {
    for (let i = 0; i < 1_000; i++, offered += 30) {
      const one = datagram(offered)
      stuck.offer(one)
      file.writer.offer(one)
    }
    await until('the file has all', () => file.writer.counters.flows === offered)
    const before = taken
    taken = stuck.counters.flows
    return stuck.counters.droppedFlows > 0 && taken === before
  })
  assert.deepEqual([file.writer.counters.droppedFlows, file.writer.counters.problem], [0, ''])
  const { flows, droppedFlows, queuedFlows, problem } = stuck.counters
  assert.equal(problem, 'flows come faster than they are taken')
  assert.equal(flows + droppedFlows + queuedFlows, offered)
  // One batch more is being written.
  assert.ok(queuedFlows > maxQueuedDatagrams * 30 && queuedFlows < (maxQueuedDatagrams + 64) * 30, `${queuedFlows}`)
})

test('TCP is connected to again when the peer comes back, and what waited goes over', async () => {
  let received = 0
  const take = (socket: Socket) => {
    socket.on('data', (chunk: Buffer) => {
      received += chunk.length
    })
  }
  const first = await listen(take)
  await using writer = openTcpWriter(first.port, { format: 'raw', gzip: false })
  const one = datagram(0)
  writer.offer(one)
  await until('the first has come', () => received === one.bytes.length)
  first[Symbol.dispose]()
  // Without a flow that would have to be written.
  await until('it is noticed', () => writer.counters.problem !== '')
  assert.match(writer.counters.problem, /ECONNREFUSED|ECONNRESET|EPIPE|closed the connection/)
  assert.equal(writer.counters.droppedFlows, 0)
  for (let i = 0; i < 10; i++) writer.offer(one)
  const [before, { flows }] = [received, writer.counters]
  using _second = await listen(take, first.port)
  await until('the queue is empty', () => writer.counters.queuedFlows === 0)
  const since = ((writer.counters.flows - flows) / 30) * one.bytes.length
  assert.ok(since > 0)
  await until('all of it has come', () => received - before === since)
})

test('a UDP peer gets each datagram as it was, or lines that fit a frame', async () => {
  const peer = createSocket('udp4')
  const messages: Buffer[] = []
  peer.on('message', bytes => messages.push(bytes))
  peer.bind(0, '127.0.0.1')
  await once(peer, 'listening')
  const to = peerTarget('udp', peer.address().port)
  const open = (signal: AbortSignal) => connectUdp(to.host, to.port, signal)
  const all = [datagram(0), datagram(1, 1)]
  for (const format of ['raw', 'ascii'] as const) {
    for (const gzip of [false, true]) {
      messages.length = 0
      await using writer = new Writer({ spec: { target: to, format, gzip }, open })
      for (const one of all) writer.offer(one)
      const lines = all.flatMap(one => one.flows.map(formatFlow)).join('')
      const wanted = format === 'raw' ? Buffer.concat(all.map(one => one.bytes)) : Buffer.from(lines)
      const content = () => Buffer.concat(gzip ? messages.map(one => gunzipSync(one)) : messages)
      await until(`${format} has come`, () => content().length >= wanted.length)
      assert.ok(content().equals(wanted))
      if (format === 'raw') assert.equal(messages.length, 2)
      assert.ok(messages.every(one => one.length <= 1_472))
    }
  }
  peer.close()
})

test('a UDP peer that cannot be found fails to open', async () => {
  await assert.rejects(connectUdp('no-such-host.invalid', 9, AbortSignal.timeout(10_000)), /no-such-host\.invalid/)
})

test('what fails to open is tried again, drops what there is no room for, and says why', async () => {
  const problems: string[] = []
  let attempts = 0
  let broken = true
  await using file = openFileWriter('raw', false)
  const written: Buffer[] = []
  await using writer = new Writer({
    spec: file.writer.spec,
    retryMs: 1,
    onProblem: problem => problems.push(problem),
    open: async () => {
      attempts++
      if (broken) throw new Error('ENOSPC: no space left on device')
      return {
        write: async bytes => void written.push(bytes),
        ended: new AbortController().signal,
        [Symbol.asyncDispose]: async () => {},
      }
    },
  })
  for (let i = 0; i < maxQueuedDatagrams + 10; i++) writer.offer(datagram(i, 1))
  await until('it says why, and tries again', () => attempts > 3)
  assert.equal(writer.counters.problem, 'ENOSPC: no space left on device')
  assert.equal(writer.counters.droppedFlows, 10)
  broken = false
  await until('all that waited is written', () => writer.counters.flows === maxQueuedDatagrams)
  assert.equal(writer.counters.problem, '')
  assert.deepEqual(problems, ['ENOSPC: no space left on device'])
})

test('a place that can be opened and takes nothing has its problem until something is written', async () => {
  let [opened, full] = [0, true]
  await using writer = new Writer({
    spec: { target: fileTarget('flows'), format: 'raw', gzip: false },
    retryMs: 1,
    open: async () => {
      opened++
      return {
        write: async () => {
          if (full) throw new Error('ENOSPC: no space left on device')
        },
        ended: new AbortController().signal,
        [Symbol.asyncDispose]: async () => {},
      }
    },
  })
  writer.offer(datagram(0))
  await until('it is opened again', () => opened === 2)
  // With nothing to write.
  assert.deepEqual([writer.counters.problem, writer.counters.queuedFlows], ['ENOSPC: no space left on device', 0])
  full = false
  writer.offer(datagram(30))
  await until('it is written', () => writer.counters.flows === 30)
  assert.equal(writer.counters.problem, '')
})

test('a TCP peer that comes back is connected to before there is anything to write', async () => {
  const first = await listen(() => {})
  await using writer = openTcpWriter(first.port, { format: 'raw', gzip: false })
  await until('it is connected', () => first.connections.length === 1)
  first[Symbol.dispose]()
  await until('it says so', () => writer.counters.problem !== '')
  using second = await listen(() => {}, first.port)
  await until('it is connected again', () => second.connections.length === 1 && writer.counters.problem === '')
  // A peer that closes one connection, and goes on listening.
  second.connections[0]?.end()
  await until('it is connected once more', () => second.connections.length === 2)
  assert.deepEqual(writer.counters, { flows: 0, bytes: 0, droppedFlows: 0, queuedFlows: 0, problem: '' })
})

test('a file that was removed is not written on, and what is lost is counted', async () => {
  await using file = openFileWriter('raw', false)
  const { writer } = file
  writer.offer(datagram(0))
  await until('the first is written', () => writer.counters.flows === 30)
  rmSync(file.path)
  writer.offer(datagram(30))
  await until('it says why', () => writer.counters.problem !== '')
  assert.equal(writer.counters.flows, 30)
  await writer[Symbol.asyncDispose]()
  assert.deepEqual(
    { ...writer.counters, bytes: 0, problem: '' },
    { flows: 30, bytes: 0, droppedFlows: 30, queuedFlows: 0, problem: '' },
  )
})

test('what a writer throws away when it is closed counts as dropped', async () => {
  using peer = await listen(socket => void socket.pause())
  await using stuck = openTcpWriter(peer.port, { format: 'raw', gzip: false })
  let offered = 0
  await until('it is stuck', () => {
    for (let i = 0; i < 1_000; i++, offered += 30) stuck.offer(datagram(offered))
    return stuck.counters.droppedFlows > 0
  })
  await stuck[Symbol.asyncDispose]()
  const { flows, droppedFlows, queuedFlows } = stuck.counters
  assert.deepEqual([flows + droppedFlows, queuedFlows], [offered, 0])
  stuck.offer(datagram(0))
  assert.equal(stuck.counters.droppedFlows, droppedFlows + 30)
})

test('a queue that is full holds some 7 MB of datagrams, and not their flows', async () => {
  setFlagsFromString('--expose-gc')
  const heldBytes = () => {
    runInNewContext('gc(); gc()')
    const { heapUsed, arrayBuffers } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
  const writer = new Writer({
    spec: { target: fileTarget('flows'), format: 'ascii', gzip: false },
    open: async () => await new Promise(() => {}),
  })
  const before = heldBytes()
  for (let i = 0; i < maxQueuedDatagrams + 100; i++) writer.offer(datagram(i * 30))
  assert.equal(writer.counters.queuedFlows, maxQueuedDatagrams * 30)
  const held = heldBytes() - before
  assert.ok(held < 9e6, `${held} bytes`)
})
