import { endianness } from 'node:os'

/** Byte order of this machine: that of netlink, of pcap files, and of structures handed to the kernel and the C library. */
export const littleEndian = endianness() === 'LE'

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
