import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import type { Flow } from '../../src/gen/ovs/bridge/v1/netflow.js'
import type { Engine } from '../../src/netflow/index.js'
import { output } from './command.js'
import type { RpcStream } from './rpc.js'
import { until, within } from './until.js'

/** A whole number of seconds as the API takes it. */
export function seconds(value: number): { readonly seconds: bigint; readonly nanos: number } {
  return { seconds: BigInt(value), nanos: 0 }
}

/** A folder for the files that callers have written. */
export interface CaptureDirectory extends Disposable {
  readonly path: string
  /** That have a daemon use it. */
  readonly flags: readonly string[]
}

export function captureDirectory(): CaptureDirectory {
  const path = mkdtempSync(join(tmpdir(), 'captures-'))
  return { path, flags: ['--capture-dir', path], [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}

/** What a datagram made by hand says; what is not given is 0, or of the flow `10.0.0.1:1` to `10.0.0.2:2`. */
export interface MadeDatagram {
  readonly engine: Engine
  /** Number of its first flow; the header has that of the last. */
  readonly firstFlow: number
  readonly count?: number
  readonly packets?: number
  readonly octets?: number
  /** Of the exporter; 10 s if not given. */
  readonly uptimeMs?: number
}

/** A NetFlow datagram of version 5 whose flows are alike: each of a second that ended half a second before it was sent. */
export function makeDatagram(made: MadeDatagram): Buffer {
  const { engine, firstFlow, count = 1, packets = 1, octets = 98, uptimeMs = 10_000 } = made
  const bytes = Buffer.alloc(24 + count * 48)
  const nowMs = Date.now()
  bytes.writeUInt16BE(5, 0)
  bytes.writeUInt16BE(count, 2)
  bytes.writeUInt32BE(uptimeMs, 4)
  bytes.writeUInt32BE(Math.floor(nowMs / 1_000), 8)
  bytes.writeUInt32BE((nowMs % 1_000) * 1_000_000, 12)
  bytes.writeUInt32BE((firstFlow + count - 1) >>> 0, 16)
  bytes.writeUInt8(engine.type, 20)
  bytes.writeUInt8(engine.id, 21)
  for (let at = 24; at < bytes.length; at += 48) {
    bytes.set([10, 0, 0, 1, 10, 0, 0, 2], at)
    bytes.writeUInt16BE(3, at + 12)
    bytes.writeUInt16BE(4, at + 14)
    bytes.writeUInt32BE(packets, at + 16)
    bytes.writeUInt32BE(octets, at + 20)
    bytes.writeUInt32BE((uptimeMs - 1_500) >>> 0, at + 24)
    bytes.writeUInt32BE((uptimeMs - 500) >>> 0, at + 28)
    bytes.writeUInt16BE(1, at + 32)
    bytes.writeUInt16BE(2, at + 34)
    bytes.writeUInt8(0x12, at + 37)
    bytes.writeUInt8(17, at + 38)
    bytes.writeUInt8(0x20, at + 39)
  }
  return bytes
}

/** Packets and bytes of some flows together. */
export interface Sum {
  readonly packets: number
  readonly bytes: number
}

export function sumOf(flows: readonly Flow[]): Sum {
  const sum = (of: 'packets' | 'bytes') => Number(flows.reduce((total, flow) => total + flow[of], 0n))
  return { packets: sum('packets'), bytes: sum('bytes') }
}

/** The flows that a stream tells, until all that were told together are enough. */
export async function flowsUntil(
  stream: RpcStream<{ readonly flows: Flow[] }>,
  what: string,
  isEnough: (flows: readonly Flow[]) => boolean,
  deadlineMs = 40_000,
): Promise<Flow[]> {
  const flows: Flow[] = []
  const read = async () => {
    while (!isEnough(flows)) flows.push(...(await stream.next(what, deadlineMs)).flows)
  }
  try {
    await within(what, deadlineMs, read())
  } catch (error) {
    throw new Error(`${what}; there came ${inspect(flows, { depth: 3 })}`, { cause: error })
  }
  return flows
}

/** Debian's collector, nfcapd(1), on a port of this namespace's loopback. */
export interface Nfcapd extends AsyncDisposable {
  /** Ends it once it has read all it was sent; what nfdump(1) sums up of it. */
  summary(): Promise<Sum & { readonly flows: number }>
}

export async function startNfcapd(port: number, signal: AbortSignal): Promise<Nfcapd> {
  const directory = mkdtempSync(join(tmpdir(), 'nfcapd-'))
  const child = spawn('nfcapd', ['-4', '-b', '127.0.0.1', '-p', `${port}`, '-l', directory], { stdio: 'ignore' })
  const ended = once(child, 'close')
  await until('nfcapd listens', () => udpSocket(port) !== undefined, { deadlineMs: 30_000 })
  return {
    summary: async () => {
      await until('nfcapd has read all', () => udpSocket(port)?.waitingBytes === 0, { deadlineMs: 30_000 })
      child.kill('SIGTERM')
      await within('nfcapd ends', 30_000, ended)
      const text = await output(signal, 'nfdump', '-R', directory, '-I')
      const value = (name: string) => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1])
      return { flows: value('Flows'), packets: value('Packets'), bytes: value('Bytes') }
    },
    [Symbol.asyncDispose]: async () => {
      await end(child, ended)
      rmSync(directory, { recursive: true })
    },
  }
}

async function end(child: ChildProcess, ended: Promise<unknown>): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL')
  await ended
}

/** What the kernel says of a socket. */
export interface UdpSocket {
  /** That its process has not read yet. */
  readonly waitingBytes: number
  /** Datagrams for which it had no room. */
  readonly drops: number
}

/** The socket on that UDP port of 127.0.0.1 in this namespace, proc(5); undefined: there is none. */
export function udpSocket(port: number): UdpSocket | undefined {
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`
  const rows = readFileSync('/proc/thread-self/net/udp', 'utf8')
    .split('\n')
    .map(line => line.trim().split(/\s+/))
  const row = rows.find(row => row[1] === local)
  if (row === undefined) return undefined
  return { waitingBytes: Number.parseInt(row[4]?.split(':')[1] ?? '', 16), drops: Number(row.at(-1)) }
}
