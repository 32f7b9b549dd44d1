import { type Parsed, parsed, refused } from '../lib/parsed.js'

/** Tells exporters apart: the two bytes of that name in the header. */
export interface Engine {
  readonly type: number
  readonly id: number
}

/** One flow, in one direction, over a stretch of its life. */
export interface Flow {
  /** IPv4 address as a number; see {@link formatIpv4}. */
  readonly source: number
  readonly destination: number
  readonly sourcePort: number
  /** Of ICMP: 256 times the type, plus the code. */
  readonly destinationPort: number
  /** Of the IP header, RFC 791 §3.1. */
  readonly protocol: number
  readonly tos: number
  /** All that were seen, or-ed. */
  readonly tcpFlags: number
  /** Number of the exporter's interface. */
  readonly input: number
  readonly output: number
  readonly packets: number
  readonly octets: number
  /** Milliseconds since the epoch; of a flow that goes on, Open vSwitch tells its very first packet each time. */
  readonly firstMs: number
  readonly lastMs: number
}

/** What an exporter sends at once. */
export interface Datagram {
  /** As it was on the wire. */
  readonly bytes: Buffer
  readonly engine: Engine
  /** How long the exporter had been there; modulo 2^32, which is 49 days. */
  readonly uptimeMs: number
  /** Number of its first flow among all that the exporter has told; modulo 2^32. */
  readonly firstFlow: number
  readonly flows: readonly Flow[]
}

const version = 5
const headerBytes = 24
const recordBytes = 48
const maxFlows = 30

/** Reads a NetFlow datagram of version 5, as Cisco documents its format and Open vSwitch's ofproto/netflow.c writes it. */
export function decodeDatagram(bytes: Buffer): Parsed<Datagram> {
  if (bytes.length < headerBytes) return refused(`has ${bytes.length} bytes, and a header alone has ${headerBytes}`)
  const given = bytes.readUInt16BE(0)
  if (given !== version) return refused(`is of version ${given}`)
  const count = bytes.readUInt16BE(2)
  if (count < 1 || count > maxFlows) return refused(`says that it holds ${count} flows; there are 1 to ${maxFlows}`)
  const length = headerBytes + count * recordBytes
  if (bytes.length !== length) return refused(`has ${bytes.length} bytes; with ${count} flows it has ${length}`)
  const flows: Flow[] = []
  for (let at = headerBytes; at < length; at += recordBytes) flows.push(decodeFlow(bytes, at))
  const engine = { type: bytes.readUInt8(20), id: bytes.readUInt8(21) }
  // Open vSwitch writes the number of the last flow into the header, where Cisco has that of the first.
  const firstFlow = (bytes.readUInt32BE(16) - count + 1) >>> 0
  return parsed({ bytes, engine, uptimeMs: bytes.readUInt32BE(4), firstFlow, flows })
}

function decodeFlow(bytes: Buffer, at: number): Flow {
  return {
    source: bytes.readUInt32BE(at),
    destination: bytes.readUInt32BE(at + 4),
    input: bytes.readUInt16BE(at + 12),
    output: bytes.readUInt16BE(at + 14),
    packets: bytes.readUInt32BE(at + 16),
    octets: bytes.readUInt32BE(at + 20),
    firstMs: timeOf(bytes, bytes.readUInt32BE(at + 24)),
    lastMs: timeOf(bytes, bytes.readUInt32BE(at + 28)),
    sourcePort: bytes.readUInt16BE(at + 32),
    destinationPort: bytes.readUInt16BE(at + 34),
    tcpFlags: bytes.readUInt8(at + 37),
    protocol: bytes.readUInt8(at + 38),
    tos: bytes.readUInt8(at + 39),
  }
}

/** A moment of the exporter's uptime, which the header gives together with the time of day. */
function timeOf(header: Buffer, uptimeMs: number): number {
  const epochMs = header.readUInt32BE(8) * 1_000 + Math.floor(header.readUInt32BE(12) / 1_000_000)
  // Modulo 2^32, after 49 days of uptime.
  const agoMs = (header.readUInt32BE(4) - uptimeMs) | 0
  return epochMs - agoMs
}

/** What tells of flows that never came: where a datagram stands among those of its exporter. */
export interface Place extends Pick<Datagram, 'firstFlow' | 'uptimeMs'> {
  /** Of the flows in it. */
  readonly count: number
  /** When it came, by a clock that is never set. */
  readonly atMs: number
}

/** Longer than a datagram waits to be read. */
const readLateMs = 86_400_000

/** How many flows are missing between two datagrams of one exporter. On a loopback no datagram overtakes another. */
export function missingBetween(former: Place, next: Place): number {
  // The exporter has begun anew when its uptime goes back, which modulo 2^32 is farther on than time has passed.
  const advanceMs = (next.uptimeMs - former.uptimeMs) >>> 0
  if (advanceMs > next.atMs - former.atMs + readLateMs) return next.firstFlow
  const gap = (next.firstFlow - former.firstFlow - former.count) >>> 0
  // A step back: the exporter was gone for longer than it had been there.
  return gap < 2 ** 31 ? gap : 0
}

export function formatIpv4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 0xff}.${(address >>> 8) & 0xff}.${address & 0xff}`
}

/** A line: start, duration, protocol, `source:port`, `<->`, `destination:port`, packets, octets; tabs between. */
export function formatFlow(flow: Flow): string {
  const { source, sourcePort, destination, destinationPort } = flow
  const fields = [
    new Date(flow.firstMs).toISOString(),
    `${(flow.lastMs - flow.firstMs) / 1_000}s`,
    flow.protocol,
    `${formatIpv4(source)}:${sourcePort}`,
    '<->',
    `${formatIpv4(destination)}:${destinationPort}`,
    flow.packets,
    flow.octets,
  ]
  return `${fields.join('\t')}\n`
}
