import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import { newFramer } from '../../src/ovsdb/framing.js'
import { isArray, isRecord } from '../../src/ovsdb/json.js'
import { type ModelDatabase, modelSchemaJson } from './model-database.js'

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

export async function startFaultyServer(database: ModelDatabase): Promise<FaultyServer> {
  const directory = await mkdtemp(join(tmpdir(), 'ovsdb-faulty-'))
  const socketPath = join(directory, 's')
  const served = new Served(database)
  let newest: Peer | undefined
  let faults: Faults = {}
  const server = createServer(socket => {
    newest = new Peer(socket, faults, served)
  })
  server.listen(socketPath)
  await once(server, 'listening')
  return {
    socketPath,
    get traffic() {
      return { out: newest?.bytesOut ?? 0, in: newest?.bytesIn ?? 0 }
    },
    get faults() {
      return faults
    },
    set faults(next) {
      faults = next
    },
    transact: (...operations) => void served.commit(operations, () => false),
    cutAll: () => served.cutAll(),
    [Symbol.asyncDispose]: async () => {
      served.cutAll()
      server.close()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** One connection, with what is wrong with it. */
class Peer {
  monitorId: unknown
  bytesOut = 0
  bytesIn = 0
  readonly #socket: Socket
  readonly #faults: Faults
  readonly #served: Served
  readonly #framer = newFramer()
  readonly #unsent: Buffer[] = []
  #isPumping = false

  constructor(socket: Socket, faults: Faults, served: Served) {
    this.#socket = socket
    this.#faults = faults
    this.#served = served
    served.join(this)
    socket.on('error', () => this.cut())
    socket.on('close', () => this.cut())
    socket.on('data', (chunk: Buffer) => this.#read(chunk))
    if (faults.cutOutAfter === 0 || faults.cutInAfter === 0) this.cut()
  }

  cut(): void {
    this.#socket.destroy()
    this.#served.leave(this)
  }

  notify(method: string, params: readonly unknown[]): void {
    this.post({ method, params, id: null })
  }

  post(message: object): void {
    const text = JSON.stringify(message)
    this.#unsent.push(Buffer.from(this.#faults.distort?.(text) ?? text))
    if (!this.#isPumping) void this.#pump()
  }

  #read(chunk: Buffer): void {
    const left = (this.#faults.cutInAfter ?? Number.POSITIVE_INFINITY) - this.bytesIn
    const taken = chunk.subarray(0, Math.min(chunk.length, left))
    this.bytesIn += taken.length
    for (const message of this.#framer.push(taken)) this.#served.take(this, message)
    if (taken.length === left) this.cut()
  }

  async #pump(): Promise<void> {
    const { pieceBytes, delayMs, cutOutAfter = Number.POSITIVE_INFINITY } = this.#faults
    this.#isPumping = true
    for (let bytes = this.#unsent.shift(); bytes !== undefined; bytes = this.#unsent.shift()) {
      for (let at = 0; at < bytes.length; ) {
        const size = Math.min(pieceBytes?.() ?? bytes.length, bytes.length - at, cutOutAfter - this.bytesOut)
        if (delayMs !== undefined) await wait(delayMs())
        if (this.#socket.destroyed) return
        if (size > 0) await written(this.#socket, bytes.subarray(at, at + size))
        at += size
        this.bytesOut += size
        if (this.bytesOut >= cutOutAfter) return this.cut()
      }
    }
    this.#isPumping = false
  }
}

const noTransaction = '00000000-0000-0000-0000-000000000000'

/** What all connections share: the database, who follows it, and who holds its locks. */
class Served {
  readonly #database: ModelDatabase
  readonly #peers = new Set<Peer>()
  /** By lock, who asked for it; the first one holds it. */
  readonly #locks = new Map<string, Peer[]>()

  constructor(database: ModelDatabase) {
    this.#database = database
  }

  join(peer: Peer): void {
    this.#peers.add(peer)
  }

  leave(peer: Peer): void {
    if (!this.#peers.delete(peer)) return
    for (const [lock, queue] of this.#locks) {
      const wasHolder = queue[0] === peer
      const rest = queue.filter(other => other !== peer)
      this.#locks.set(lock, rest)
      if (wasHolder) rest[0]?.notify('locked', [lock])
    }
  }

  cutAll(): void {
    for (const peer of [...this.#peers]) peer.cut()
  }

  commit(operations: readonly unknown[], ownsLock: (lock: unknown) => boolean) {
    const { results, updates } = this.#database.transact(operations, ownsLock)
    if (Object.keys(updates).length > 0) {
      for (const peer of this.#peers)
        if (peer.monitorId !== undefined) peer.notify('update3', [peer.monitorId, noTransaction, updates])
    }
    return results
  }

  take(peer: Peer, message: unknown): void {
    if (!isRecord(message) || !isArray(message['params'])) return
    const { method, params, id } = message
    const [first, ...rest] = params
    const answer = (result: unknown) => peer.post({ id, result, error: null })
    const queue = this.#locks.get(String(first)) ?? []
    switch (method) {
      case 'echo':
        return answer(params)
      case 'get_schema':
        return answer(modelSchemaJson)
      case 'lock':
        this.#locks.set(String(first), [...queue, peer])
        return answer({ locked: queue.length === 0 })
      case 'monitor_cond_since':
        peer.monitorId = params[1]
        return answer([false, noTransaction, this.#database.dump()])
      case 'transact':
        return answer(this.commit(rest, lock => this.#locks.get(String(lock))?.[0] === peer))
      case 'cancel':
        return
      default:
        return peer.post({ id, result: null, error: 'unknown method' })
    }
  }
}

async function wait(ms: number): Promise<void> {
  if (ms === 0) await nextTurn()
  else await delay(ms)
}

function written(socket: Socket, bytes: Uint8Array): Promise<void> {
  return new Promise(resolve => void socket.write(bytes, () => resolve()))
}
