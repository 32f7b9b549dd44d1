import { littleEndian, viewOf } from '../lib/byte-order.js'

/** pcap-savefile(5), of the machine's byte order and with nanoseconds, as libpcap writes it. */
export const fileHeaderBytes = 24
export const recordHeaderBytes = 16

/** One packet of a pcap file. */
export interface PcapRecord {
  readonly seconds: number
  readonly nanoseconds: number
  /** Of the packet on the wire. */
  readonly originalBytes: number
  readonly data: Uint8Array
}

/** The whole records that `bytes` begin with. What follows the last of them is left out. */
export function* pcapRecords(bytes: Uint8Array): Iterable<PcapRecord> {
  const view = viewOf(bytes)
  for (let at = 0; at + recordHeaderBytes <= bytes.length; ) {
    const end = at + recordHeaderBytes + view.getUint32(at + 8, littleEndian)
    if (end > bytes.length) return
    yield {
      seconds: view.getUint32(at, littleEndian),
      nanoseconds: view.getUint32(at + 4, littleEndian),
      originalBytes: view.getUint32(at + 12, littleEndian),
      data: bytes.subarray(at + recordHeaderBytes, end),
    }
    at = end
  }
}

/** How many whole records `bytes` begin with, and where the last of them ends. */
export function wholeRecords(bytes: Uint8Array): { readonly packets: number; readonly bytes: number } {
  const whole = { packets: 0, bytes: 0 }
  for (const { data } of pcapRecords(bytes)) {
    whole.packets++
    whole.bytes += recordHeaderBytes + data.length
  }
  return whole
}
