import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { callBlock, frame, frameTypes, greeting } from '../test/support/http2-frames.js'
import { bulkTimeoutMs } from './world.js'

/**
 * A client of one method that takes next to nothing of the processors, so that what is measured is the service: a request is
 * bytes on a socket, and of an answer is looked at no more than whether it has a message, which one that failed has not.
 */
export interface LeanCaller {
  /** Resolves when the call has succeeded; throws when it has failed. */
  call(message: Uint8Array): Promise<void>
}

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
  hasMessage: boolean
}

/** Calls `/package.Service/Method` of the server at `unix:/…`, all calls on one connection. */
export async function openLeanCaller(address: string, method: string): Promise<LeanCaller & Disposable> {
  const socket = connect(address.replace('unix:', ''))
  await once(socket, 'connect')
  const waiting = new Map<number, Waiting>()
  readFrames(socket, received => {
    acknowledge(socket, received)
    const { type, stream, payload, flags } = received
    const call = waiting.get(stream)
    if (call === undefined) return
    if (type === frameTypes.data && payload.length > 0) call.hasMessage = true
    if ((flags & endStream) === 0 || type > frameTypes.headers) return
    waiting.delete(stream)
    if (call.hasMessage) call.resolve()
    else call.reject(new Error(`a call of ${method} failed`))
  })
  socket.once('close', () => {
    for (const { reject } of waiting.values()) reject(new Error('the server has closed the connection'))
  })
  // Its end is told above.
  socket.on('error', () => {}).setTimeout(bulkTimeoutMs, () => socket.destroy())
  socket.write(greeting)
  const block = callBlock(method)
  let stream = -1
  const unsent: Buffer[] = []
  // Calls of one turn of the event loop go in one write.
  const send = (frames: Buffer[]) => {
    if (unsent.length === 0) process.nextTick(() => socket.write(Buffer.concat(unsent.splice(0))))
    unsent.push(...frames)
  }
  return {
    call: message =>
      new Promise((resolve, reject) => {
        stream += 2
        waiting.set(stream, { resolve, reject, hasMessage: false })
        send([frame('headers', endHeaders, stream, block), frame('data', endStream, stream, framed(message))])
      }),
    [Symbol.dispose]: () => socket.destroy(),
  }
}

// RFC 9113 §6.1, §6.2, §6.5.
const endStream = 1
const endHeaders = 4
const acknowledgement = 1

interface Frame {
  readonly type: number
  readonly flags: number
  readonly stream: number
  readonly payload: Buffer
}

/** Settings and pings want an answer. */
function acknowledge(socket: Socket, { type, flags, payload }: Frame): void {
  if ((flags & acknowledgement) !== 0) return
  if (type === frameTypes.settings) socket.write(frame('settings', acknowledgement, 0, Buffer.alloc(0)))
  if (type === frameTypes.ping) socket.write(frame('ping', acknowledgement, 0, payload))
}

/** RFC 9113 §4.1. */
const headBytes = 9

function readFrames(socket: Socket, take: (received: Frame) => void): void {
  let unread: Buffer = Buffer.alloc(0)
  socket.on('data', (chunk: Buffer) => {
    unread = unread.length === 0 ? chunk : Buffer.concat([unread, chunk])
    while (unread.length >= headBytes) {
      const end = headBytes + unread.readUIntBE(0, 3)
      if (end > unread.length) return
      const [type, flags] = [unread.readUInt8(3), unread.readUInt8(4)]
      take({ type, flags, stream: unread.readUInt32BE(5), payload: unread.subarray(headBytes, end) })
      unread = unread.subarray(end)
    }
  })
}

/** A message as gRPC has it in HTTP/2: not compressed, and its length. */
function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}
