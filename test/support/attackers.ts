/**
 * A process that plays one kind of ill-behaved client against the server on a unix socket: `node attackers.js KIND SOCKET`.
 * Runs until it is killed, as another user where it is told a uid; says `ready` when all that it does is under way.
 */
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'

export const attacks = ['idle', 'slow-loris', 'huge-messages', 'huge-headers', 'never-reading'] as const
export type Attack = (typeof attacks)[number]

export const attackersProgram = fileURLToPath(import.meta.url)

function open(path: string): Promise<Socket> {
  return new Promise(resolve => {
    const socket = connect(path)
    socket.on('error', () => resolve(socket)).once('connect', () => resolve(socket))
  })
}

/** Repeats, at most `many` at a time, for ever. */
function forEver(many: number, once: () => Promise<void>): void {
  const run = async () => {
    for (;;) await once().catch(() => undefined)
  }
  for (let i = 0; i < many; i++) void run()
}

const headers = (path: string) => ({
  ':method': 'POST',
  ':path': path,
  'content-type': 'application/grpc',
  te: 'trailers',
})
const list = '/ovs.bridge.v1.BridgeService/ListTaps'
const watch = '/ovs.bridge.v1.BridgeService/WatchTaps'
const emptyMessage = Buffer.alloc(5)

function session(path: string) {
  const made = connectHttp2('http://localhost', { createConnection: () => connect(path) })
  made.on('error', () => {})
  return made
}

async function attack(kind: Attack, path: string): Promise<void> {
  switch (kind) {
    case 'idle':
      // Further ones take the place of those that the server has let go.
      for (let i = 0; i < 5_000; i++) await open(path)
      return
    case 'slow-loris':
      return forEver(200, async () => {
        const socket = await open(path)
        const preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
        for (let i = 0; i < preface.length && !socket.destroyed; i++) {
          socket.write(preface.subarray(i, i + 1))
          await new Promise(resolve => setTimeout(resolve, 500))
        }
        socket.destroy()
      })
    case 'huge-messages':
      return forEver(4, async () => {
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
      })
    case 'huge-headers':
      return forEver(4, async () => {
        const client = session(path)
        const stream = client.request({ ...headers(list), 'x-padding': 'y'.repeat(1_000_000) })
        stream.on('error', () => {}).resume()
        await new Promise(resolve => stream.once('close', resolve))
        client.destroy()
      })
    case 'never-reading':
      for (let i = 0; i < 20; i++) {
        // One after the other: it is what they leave behind that counts.
        await new Promise(resolve => setTimeout(resolve, 50))
        const client = session(path)
        for (let j = 0; j < 100; j++) {
          const stream = client.request(headers(j % 2 === 0 ? watch : list))
          stream.on('error', () => {}).on('response', () => stream.pause())
          stream.end(emptyMessage)
        }
      }
      return
  }
}

if (process.argv[1] === attackersProgram) {
  const [, , kind, path = '', uid] = process.argv
  if (uid !== undefined) process.setuid?.(Number(uid))
  const known = attacks.find(one => one === kind)
  if (known === undefined) throw new Error(`no attack ${kind}`)
  await attack(known, path)
  process.stdout.write('ready\n')
  // Connections alone would not keep a process that the server has cut off.
  setInterval(() => {}, 1_000)
}
