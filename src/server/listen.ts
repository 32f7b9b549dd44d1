import { chmod, lstat, mkdir, mkdtemp, rename, rm, rmdir, unlink } from 'node:fs/promises'
import { connect } from 'node:net'
import { dirname, join } from 'node:path'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import { abortScope, raceAbort } from '../lib/abort.js'
import {
  formatAddress,
  type LocalAddress,
  maxSocketPathBytes,
  type SocketPath,
  type TcpAddress,
} from '../lib/socket-address.js'
import type { Calls } from './call.js'

export type ListenProblem =
  | { readonly kind: 'in-use'; readonly address: string; readonly message: string }
  | { readonly kind: 'not-a-socket'; readonly address: string; readonly message: string }
  | { readonly kind: 'cannot-bind'; readonly address: string; readonly message: string }

/** An address that cannot be served. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
  readonly problem: ListenProblem

  constructor(problem: ListenProblem, options?: { readonly cause?: unknown }) {
    super(problem.message, options)
    this.problem = problem
  }
}

export interface ListenOptions {
  readonly addresses: readonly LocalAddress[]
  /** Adds the services. */
  readonly register: (server: Server) => void
  /** Drained when the server stops. */
  readonly calls: Calls
  /** How long running calls may still take then. */
  readonly drainTimeoutMs: number
  /** Mode of unix sockets. */
  readonly socketMode?: number
  /** Directories that are made, with mode 0750, when a socket is to be in one of them and it does not exist. */
  readonly ownDirectories?: readonly string[]
}

/** A running server. Disposing it drains the calls, closes everything and removes the sockets. */
export interface Listening extends AsyncDisposable {
  /** What it is bound to, with the ports that the kernel chose. */
  readonly addresses: readonly string[]
}

/** Time for answers to leave after the last handler has settled; only idle streams of others use it up. */
const flushMs = 250

/**
 * Serves on all addresses, or on none: throws a `ListenError` for the first that cannot be. A unix socket is never open to
 * more than its mode says, and appears under its name only when it answers.
 */
export async function listen(options: ListenOptions): Promise<Listening> {
  const server = new Server()
  options.register(server)
  const bound: Bound[] = []
  try {
    for (const address of options.addresses) {
      bound.push(
        address.kind === 'unix' ? await bindUnix(server, address.path, options) : await bindTcp(server, address),
      )
    }
  } catch (error) {
    server.forceShutdown()
    for (const { remove } of bound) await remove()
    throw error
  }
  let stopped: Promise<void> | undefined
  return {
    addresses: bound.map(({ address }) => address),
    [Symbol.asyncDispose]() {
      stopped ??= stop(server, bound, options)
      return stopped
    },
  }
}

interface Bound {
  readonly address: string
  /** Removes what is left in the file system. */
  remove(): Promise<void>
}

async function stop(server: Server, bound: readonly Bound[], options: ListenOptions): Promise<void> {
  const closed = new Promise<void>(resolve => server.tryShutdown(() => resolve()))
  await options.calls.drain(options.drainTimeoutMs)
  using flush = abortScope({ deadline: Date.now() + flushMs })
  await raceAbort(closed, flush.signal).catch(() => undefined)
  server.forceShutdown()
  for (const { remove } of bound) await remove()
}

async function bindTcp(server: Server, wanted: TcpAddress): Promise<Bound> {
  const port = await bind(server, formatAddress(wanted), formatAddress(wanted))
  return { address: formatAddress({ ...wanted, port }), remove: async () => {} }
}

/**
 * Binds in a directory that only we can enter, gives the socket its mode there, then moves it to its name. Between bind(2)
 * and chmod(2) a socket has whatever mode umask left.
 */
async function bindUnix(server: Server, path: SocketPath, options: ListenOptions): Promise<Bound> {
  const address = `unix:${path}`
  const directory = dirname(path)
  if (options.ownDirectories?.includes(directory)) await mkdir(directory, { recursive: true, mode: 0o750 })
  await refuseUnlessFree(path)
  const inner = await mkdtemp(join(directory, '.new-')).catch((cause: unknown) => {
    throw new ListenError({ kind: 'cannot-bind', address, message: `cannot make ${path}: ${text(cause)}` }, { cause })
  })
  try {
    const fresh = join(inner, 's')
    if (Buffer.byteLength(fresh) > maxSocketPathBytes) {
      const message = `cannot make ${path}: the name of its directory is too long`
      throw new ListenError({ kind: 'cannot-bind', address, message })
    }
    await bind(server, `unix:${fresh}`, address)
    await chmod(fresh, options.socketMode ?? 0o660)
    const { ino, dev } = await lstat(fresh)
    await rename(fresh, path)
    return { address, remove: () => removeIfOurs(path, { ino, dev }) }
  } finally {
    await rm(join(inner, 's'), { force: true })
    await rmdir(inner)
  }
}

/** A path is free when nothing is there, or a socket that nobody listens on any more. */
async function refuseUnlessFree(path: SocketPath): Promise<void> {
  const address = `unix:${path}`
  const there = await lstat(path).catch(() => undefined)
  if (there === undefined) return
  if (!there.isSocket()) {
    throw new ListenError({ kind: 'not-a-socket', address, message: `${path} exists and is not a socket` })
  }
  if ((await probe(path)) === 'answers') {
    throw new ListenError({ kind: 'in-use', address, message: `another daemon is listening on ${path}` })
  }
}

/** unix(7): ECONNREFUSED says that no process has the socket open; anything else, EAGAIN of a full backlog too, is life. */
function probe(path: SocketPath): Promise<'answers' | 'stale'> {
  return new Promise(resolve => {
    const socket = connect(path)
    const settle = (found: 'answers' | 'stale') => {
      socket.destroy()
      resolve(found)
    }
    socket.once('connect', () => settle('answers'))
    socket.once('error', (error: NodeJS.ErrnoException) =>
      settle(error.code === 'ECONNREFUSED' || error.code === 'ENOENT' ? 'stale' : 'answers'),
    )
  })
}

function bind(server: Server, target: string, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(target, ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) resolve(port)
      else if (error.message.includes('EADDRINUSE')) {
        const message = `another process is listening on ${address}`
        reject(new ListenError({ kind: 'in-use', address, message }, { cause: error }))
      } else {
        const message = `cannot listen on ${address}: ${error.message}`
        reject(new ListenError({ kind: 'cannot-bind', address, message }, { cause: error }))
      }
    })
  })
}

/** A daemon that took the name over keeps its socket. */
async function removeIfOurs(path: SocketPath, ours: { readonly ino: number; readonly dev: number }): Promise<void> {
  const there = await lstat(path).catch(() => undefined)
  if (there?.ino === ours.ino && there.dev === ours.dev) await unlink(path)
}

function text(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
