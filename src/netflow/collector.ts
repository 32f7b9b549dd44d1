import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { type Datagram, decodeDatagram, type Engine, missingBetween, type Place } from './datagram.js'
import type { Writer } from './writer.js'
import { writerName } from './writer-spec.js'

/** What a collector has taken in since it was opened. */
export interface CollectorCounters {
  readonly flows: number
  readonly packets: number
  /** Of the flows' packets. */
  readonly octets: number
  readonly datagrams: number
  /** Of the datagrams. */
  readonly datagramBytes: number
  /** Flows whose datagrams never came, by the gaps in their numbers. */
  readonly lostFlows: number
  /** Datagrams that are none of NetFlow version 5, or not whole. */
  readonly malformedDatagrams: number
  /** Datagrams from elsewhere than 127.0.0.1, of somebody else's engine, or of a writer of its own. */
  readonly foreignDatagrams: number
}

export interface CollectorOptions {
  /** The only one whose datagrams are taken. */
  readonly engine: Engine
  /** Told of each datagram that was taken, after the writers. */
  readonly onDatagram: (datagram: Datagram) => void
}

const loopback = '127.0.0.1'

/** Bounded by net.core.rmem_max, socket(7). */
const receiveBufferBytes = 4 * 1024 * 1024

/** Where a datagram comes from. */
interface Source {
  readonly address: string
  readonly port: number
}

const none: CollectorCounters = {
  flows: 0,
  packets: 0,
  octets: 0,
  datagrams: 0,
  datagramBytes: 0,
  lostFlows: 0,
  malformedDatagrams: 0,
  foreignDatagrams: 0,
}

/** Takes NetFlow of one exporter in on the loopback, and hands it on to writers and to who opened it. */
export class Collector implements AsyncDisposable {
  readonly writers = new Map<string, Writer>()
  readonly #options: CollectorOptions
  readonly #socket: Socket
  readonly #counters = { ...none }
  #latest: Place | undefined
  #closed: Promise<void> | undefined

  /** Takes over a bound socket. */
  constructor(socket: Socket, options: CollectorOptions) {
    this.#socket = socket
    this.#options = options
    socket.on('message', (bytes, from) => this.#take(bytes, from))
    // Errors that earlier datagrams of the loopback left behind.
    socket.on('error', () => undefined)
  }

  /** Where it listens: `127.0.0.1:PORT`. */
  get address(): string {
    const { address, port } = this.#socket.address()
    return `${address}:${port}`
  }

  get counters(): CollectorCounters {
    return { ...this.#counters }
  }

  /** Hands it what comes from now on. One that comes too late is closed with the others. */
  add(writer: Writer): void {
    if (this.#closed !== undefined) {
      void writer[Symbol.asyncDispose]()
      return
    }
    this.writers.set(writerName(writer.spec.target), writer)
  }

  /** Takes a writer away, and resolves when it is closed. */
  async remove(name: string): Promise<void> {
    const writer = this.writers.get(name)
    this.writers.delete(name)
    await writer?.[Symbol.asyncDispose]()
  }

  /** Closes the socket and all writers, whose counters stay; what is queued is written. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    this.#socket.close()
    await Promise.all(Array.from(this.writers.values(), writer => writer[Symbol.asyncDispose]()))
  }

  #take(bytes: Buffer, from: Source): void {
    const decoded = decodeDatagram(bytes)
    if (!decoded.ok) {
      this.#counters.malformedDatagrams++
      return
    }
    const datagram = decoded.value
    if (!this.#isOfExporter(datagram, from)) {
      this.#counters.foreignDatagrams++
      return
    }
    this.#count(datagram)
    for (const writer of this.writers.values()) writer.offer(datagram)
    this.#options.onDatagram(datagram)
  }

  #isOfExporter(datagram: Datagram, { address, port }: Source): boolean {
    const { engine } = this.#options
    if (address !== loopback || datagram.engine.type !== engine.type || datagram.engine.id !== engine.id) return false
    // A writer that sends to this collector would be fed by itself for ever.
    return [...this.writers.values()].every(writer => writer.localPort !== port)
  }

  #count({ bytes, firstFlow, flows, uptimeMs }: Datagram): void {
    const counters = this.#counters
    const place = { firstFlow, uptimeMs, count: flows.length, atMs: performance.now() }
    if (this.#latest !== undefined) counters.lostFlows += missingBetween(this.#latest, place)
    this.#latest = place
    counters.datagrams++
    counters.datagramBytes += bytes.length
    counters.flows += flows.length
    for (const { packets, octets } of flows) {
      counters.packets += packets
      counters.octets += octets
    }
  }
}

/** Opens a collector on a free port of 127.0.0.1. */
export async function openCollector(options: CollectorOptions): Promise<Collector> {
  const socket = createSocket({ type: 'udp4', recvBufferSize: receiveBufferBytes })
  socket.bind({ address: loopback, port: 0, exclusive: true })
  // Rejects when the socket says 'error' instead.
  await once(socket, 'listening')
  return new Collector(socket, options)
}
