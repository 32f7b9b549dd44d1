import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import { newFramer } from '../../src/ovsdb/framing.js'
import { isArray, isRecord } from '../../src/ovsdb/json.js'
import { type ModelDatabase, modelSchemaJson, type TableUpdates } from './model-database.js'

/** What is wrong with one connection. */
export interface Faults {
  /** Bytes that reach the client before the connection is cut. */
  readonly cutOutAfter?: number
  /** Bytes of the client's that are taken in before the connection is cut. */
  readonly cutInAfter?: number
  /** Of what is written at once; without it whole messages. */
  readonly pieceBytes?: () => number
  /** Before each piece; 0 is the next turn of the event loop. */
  readonly delayMs?: () => number
  /** What is sent in place of a message. */
  readonly distort?: (message: string) => string
}

/** A server of a {@link ModelDatabase} on a real socket, with locks and `monitor_cond_since`, and with faults. */
export interface FaultyServer extends AsyncDisposable {
  readonly socketPath: string
  /** Bytes written to and read from the newest connection. */
  readonly traffic: { readonly out: number; readonly in: number }
  /** Of the connections from now on. */
  faults: Faults
  /** A transaction of somebody else. */
  transact(...operations: readonly object[]): void
  /** Ends every connection. */
  cutAll(): void
}

interface Peer {
  readonly socket: Socket
  readonly faults: Faults
  readonly unsent: Buffer[]
  isPumping: boolean
  monitorId: unknown
  out: number
  in: number
}

const noTransaction = '00000000-0000-0000-0000-000000000000'

export async function startFaultyServer(database: ModelDatabase): Promise<FaultyServer> {
  const directory = await mkdtemp(join(tmpdir(), 'ovsdb-faulty-'))
  const socketPath = join(directory, 's')
  const peers = new Set<Peer>()
  /** By lock, who asked for it; the first one holds it. */
  const locks = new Map<string, Peer[]>()
  let newest: Peer | undefined
  let faults: Faults = {}

  const leave = (peer: Peer) => {
    peer.socket.destroy()
    if (!peers.delete(peer)) return
    for (const [lock, queue] of locks) {
      const wasHolder = queue[0] === peer
      const rest = queue.filter(other => other !== peer)
      locks.set(lock, rest)
      if (wasHolder && rest[0] !== undefined) notify(rest[0], 'locked', [lock])
    }
  }

  const notify = (peer: Peer, method: string, params: readonly unknown[]) => post(peer, { method, params, id: null })

  const post = (peer: Peer, message: object) => {
    const text = JSON.stringify(message)
    peer.unsent.push(Buffer.from(peer.faults.distort?.(text) ?? text))
    if (!peer.isPumping) void pump(peer)
  }

  const pump = async (peer: Peer) => {
    peer.isPumping = true
    for (let bytes = peer.unsent.shift(); bytes !== undefined; bytes = peer.unsent.shift()) {
      for (let at = 0; at < bytes.length; ) {
        const { pieceBytes, delayMs, cutOutAfter = Number.POSITIVE_INFINITY } = peer.faults
        const size = Math.min(pieceBytes?.() ?? bytes.length, bytes.length - at, cutOutAfter - peer.out)
        if (delayMs !== undefined) await wait(delayMs())
        if (peer.socket.destroyed) return
        if (size > 0) await written(peer.socket, bytes.subarray(at, at + size))
        at += size
        peer.out += size
        if (peer.out >= cutOutAfter) return leave(peer)
      }
    }
    peer.isPumping = false
  }

  const commit = (operations: readonly unknown[], ownsLock: (lock: unknown) => boolean) => {
    const { results, updates } = database.transact(operations, ownsLock)
    if (Object.keys(updates).length > 0) tellAll(updates)
    return results
  }

  const tellAll = (updates: TableUpdates) => {
    for (const peer of peers)
      if (peer.monitorId !== undefined) notify(peer, 'update3', [peer.monitorId, noTransaction, updates])
  }

  const take = (peer: Peer, message: unknown) => {
    if (!isRecord(message) || !isArray(message['params'])) return
    const { method, params, id } = message
    const [first, ...rest] = params
    const answer = (result: unknown) => post(peer, { id, result, error: null })
    const queue = locks.get(String(first)) ?? []
    switch (method) {
      case 'echo':
        return answer(params)
      case 'get_schema':
        return answer(modelSchemaJson)
      case 'lock':
        locks.set(String(first), [...queue, peer])
        return answer({ locked: queue.length === 0 })
      case 'monitor_cond_since':
        peer.monitorId = params[1]
        return answer([false, noTransaction, database.dump()])
      case 'transact':
        return answer(commit(rest, lock => locks.get(String(lock))?.[0] === peer))
      case 'cancel':
        return
      default:
        return post(peer, { id, result: null, error: 'unknown method' })
    }
  }

  const server = createServer(socket => {
    const peer: Peer = { socket, faults, unsent: [], isPumping: false, monitorId: undefined, out: 0, in: 0 }
    const framer = newFramer()
    peers.add(peer)
    newest = peer
    socket.on('error', () => leave(peer))
    socket.on('close', () => leave(peer))
    socket.on('data', (chunk: Buffer) => {
      const left = (peer.faults.cutInAfter ?? Number.POSITIVE_INFINITY) - peer.in
      const taken = chunk.subarray(0, Math.min(chunk.length, left))
      peer.in += taken.length
      for (const message of framer.push(taken)) take(peer, message)
      if (taken.length === left) leave(peer)
    })
    if (faults.cutOutAfter === 0 || faults.cutInAfter === 0) leave(peer)
  })
  server.listen(socketPath)
  await once(server, 'listening')
  return {
    socketPath,
    get traffic() {
      return { out: newest?.out ?? 0, in: newest?.in ?? 0 }
    },
    get faults() {
      return faults
    },
    set faults(next) {
      faults = next
    },
    transact: (...operations) => void commit(operations, () => false),
    cutAll: () => {
      for (const peer of [...peers]) leave(peer)
    },
    [Symbol.asyncDispose]: async () => {
      for (const peer of [...peers]) leave(peer)
      server.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

async function wait(ms: number): Promise<void> {
  if (ms === 0) await nextTurn()
  else await delay(ms)
}

function written(socket: Socket, bytes: Uint8Array): Promise<void> {
  return new Promise(resolve => void socket.write(bytes, () => resolve()))
}
