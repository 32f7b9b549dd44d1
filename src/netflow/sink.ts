import { createSocket } from 'node:dgram'
import type { FileHandle } from 'node:fs/promises'
import { connect, isIPv6 } from 'node:net'
import { abortScope, raceAbort } from '../lib/abort.js'

/** Takes bytes away to where a writer writes. Disposing it ends a write that hangs. */
export interface Sink extends AsyncDisposable {
  /** Resolves when the kernel has them all; rejects when it will not. One at a time. */
  write(bytes: Buffer): Promise<void>
  /** Aborts with an Error when somebody else has ended it. */
  readonly ended: AbortSignal
  /** Where its datagrams come from; only of one that sends some. */
  readonly localPort?: number
}

/** Nobody waits longer for a peer that says nothing. */
const connectTimeoutMs = 10_000

/** An open connection that says nothing for so long is asked whether it still is one. */
const keepAliveMs = 30_000

/** A file that is open for appending. Of a write that fails nothing stays, so that what was written can be read. */
export function fileSink(file: FileHandle): Sink {
  return {
    write: async bytes => {
      const { size, nlink } = await file.stat()
      if (nlink === 0) throw new Error('the file was removed')
      try {
        await file.appendFile(bytes)
      } catch (error) {
        // A disk that is full takes the first part.
        await file.truncate(size).catch(() => undefined)
        throw error
      }
    },
    ended: new AbortController().signal,
    [Symbol.asyncDispose]: () => file.close(),
  }
}

/** Connects over TCP. What the peer says is not looked at. */
export async function connectTcp(host: string, port: number, signal: AbortSignal): Promise<Sink> {
  using scope = abortScope({ deadline: Date.now() + connectTimeoutMs, parents: [signal] })
  const socket = connect({ host, port, keepAlive: true, keepAliveInitialDelay: keepAliveMs })
  const ended = new AbortController()
  socket.resume()
  for (const event of ['end', 'close']) {
    socket.on(event, () => ended.abort(new Error('the peer closed the connection')))
  }
  const connected = new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.on('error', error => {
      ended.abort(error)
      reject(error)
    })
  })
  try {
    await raceAbort(connected, scope.signal)
  } catch (error) {
    socket.destroy()
    throw error
  }
  return {
    write: bytes =>
      new Promise((resolve, reject) => {
        socket.write(bytes, error => (error ? reject(error) : resolve()))
      }),
    ended: ended.signal,
    [Symbol.asyncDispose]: async () => {
      socket.destroySoon()
      // What a peer does not take is not waited for.
      if (socket.writableLength > 0) socket.destroy()
    },
  }
}

/** A UDP socket towards one peer: each write is a datagram. A peer that is not there makes a later write fail. */
export async function connectUdp(host: string, port: number, signal: AbortSignal): Promise<Sink> {
  using scope = abortScope({ deadline: Date.now() + connectTimeoutMs, parents: [signal] })
  const socket = createSocket(isIPv6(host) ? 'udp6' : 'udp4')
  const ended = new AbortController()
  const connected = new Promise<void>((resolve, reject) => {
    socket.on('error', error => {
      ended.abort(error)
      reject(error)
    })
    socket.once('connect', resolve)
    // Without a callback, which would be called with an error too.
    socket.connect(port, host)
  })
  try {
    await raceAbort(connected, scope.signal)
  } catch (error) {
    socket.close()
    throw error
  }
  return {
    localPort: socket.address().port,
    write: bytes =>
      new Promise((resolve, reject) => {
        socket.send(bytes, error => (error === null ? resolve() : reject(error)))
      }),
    ended: ended.signal,
    [Symbol.asyncDispose]: () => new Promise(resolve => socket.close(resolve)),
  }
}
