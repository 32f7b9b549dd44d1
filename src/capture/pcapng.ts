import { littleEndian } from '../lib/byte-order.js'
import { pcapRecords, wholeRecords } from './pcap-records.js'
import type { Source } from './source.js'

/** A device of a pcapng stream, and what is told of it. */
export interface StreamSource extends Source {
  /** if_name: what the reader knows it by. */
  readonly name: string
  /** opt_comment of the interface. */
  readonly comment: string
}

/** Block types and options of draft-ietf-opsawg-pcapng §4 and §3.5. */
const SECTION_HEADER = 0x0a0d0d0a
const INTERFACE_DESCRIPTION = 1
const INTERFACE_STATISTICS = 5
const ENHANCED_PACKET = 6
const opt_comment = 1
const shb_userappl = 4
const if_name = 2
const if_tsresol = 9
const if_filter = 11
const isb_ifdrop = 5
const epb_dropcount = 4

const LINKTYPE_ETHERNET = 1
const nanosecondsPerSecond = 1_000_000_000n

/** The beginning of a stream: a section of its own and its interfaces, which packets name by their place. */
export function sectionOf(sources: readonly StreamSource[], application: string): Buffer {
  const header = new Uint8Array(16)
  const view = new DataView(header.buffer)
  view.setUint32(0, 0x1a2b3c4d, littleEndian)
  view.setUint16(4, 1, littleEndian)
  // The section's length is not known.
  view.setBigInt64(8, -1n, littleEndian)
  const section = block(SECTION_HEADER, header, [option(shb_userappl, Buffer.from(application))])
  return Buffer.concat([section, ...sources.map(interfaceOf)])
}

function interfaceOf({ name, comment, filter, snapLenBytes }: StreamSource): Buffer {
  const body = new Uint8Array(8)
  const view = new DataView(body.buffer)
  view.setUint16(0, LINKTYPE_ETHERNET, littleEndian)
  view.setUint32(4, snapLenBytes, littleEndian)
  // The first byte says that it is libpcap's language.
  const filtering = filter === '' ? [] : [option(if_filter, Buffer.from(`\0${filter}`))]
  return block(INTERFACE_DESCRIPTION, body, [
    option(if_name, Buffer.from(name)),
    option(opt_comment, Buffer.from(comment)),
    option(if_tsresol, Buffer.of(9)),
    ...filtering,
  ])
}

/** How many packets an interface has lost by now. */
export function statisticsOf(interfaceId: number, epochNs: bigint, dropped: number): Buffer {
  const body = new Uint8Array(12)
  const view = new DataView(body.buffer)
  view.setUint32(0, interfaceId, littleEndian)
  writeTime(view, 4, epochNs)
  return block(INTERFACE_STATISTICS, body, [option(isb_ifdrop, number64(dropped))])
}

const packetBytes = 32
const dropOptionBytes = 16

/** Packets of an interface, from the records of a pcap file; `lostBefore` the first of them so many were lost. */
export function packetsOf(interfaceId: number, records: Uint8Array, lostBefore: number): Buffer {
  const whole = wholeRecords(records)
  const out = Buffer.allocUnsafeSlow(whole.bytes + whole.packets * (packetBytes - 16 + 3) + dropOptionBytes)
  const view = new DataView(out.buffer)
  let at = 0
  for (const { seconds, nanoseconds, originalBytes, data } of pcapRecords(records)) {
    const lost = at === 0 ? lostBefore : 0
    const padded = padding(data.length)
    const length = packetBytes + padded + (lost > 0 ? dropOptionBytes : 0)
    view.setUint32(at, ENHANCED_PACKET, littleEndian)
    view.setUint32(at + 4, length, littleEndian)
    view.setUint32(at + 8, interfaceId, littleEndian)
    writeTime(view, at + 12, BigInt(seconds) * nanosecondsPerSecond + BigInt(nanoseconds))
    view.setUint32(at + 20, data.length, littleEndian)
    view.setUint32(at + 24, originalBytes, littleEndian)
    out.set(data, at + 28)
    out.fill(0, at + 28 + data.length, at + length - 4)
    if (lost > 0) out.set(option(epb_dropcount, number64(lost)), at + 28 + padded)
    view.setUint32(at + length - 4, length, littleEndian)
    at += length
  }
  return out.subarray(0, at)
}

/** In units of if_tsresol, the upper half first. */
function writeTime(view: DataView, at: number, epochNs: bigint): void {
  view.setUint32(at, Number(epochNs >> 32n), littleEndian)
  view.setUint32(at + 4, Number(epochNs & 0xffffffffn), littleEndian)
}

function block(type: number, body: Uint8Array, options: readonly Uint8Array[]): Buffer {
  const endOfOptions = new Uint8Array(4)
  const length = 12 + body.length + options.reduce((sum, { length }) => sum + length, 0) + endOfOptions.length
  const frame = new Uint8Array(8)
  const view = new DataView(frame.buffer)
  view.setUint32(0, type, littleEndian)
  view.setUint32(4, length, littleEndian)
  return Buffer.concat([frame, body, ...options, endOfOptions, frame.subarray(4)])
}

function option(code: number, value: Uint8Array): Uint8Array {
  const out = new Uint8Array(4 + padding(value.length))
  const view = new DataView(out.buffer)
  view.setUint16(0, code, littleEndian)
  view.setUint16(2, value.length, littleEndian)
  out.set(value, 4)
  return out
}

function number64(value: number): Uint8Array {
  const out = new Uint8Array(8)
  new DataView(out.buffer).setBigUint64(0, BigInt(value), littleEndian)
  return out
}

/** A length brought up to a multiple of 4. */
function padding(bytes: number): number {
  return (bytes + 3) & ~3
}
