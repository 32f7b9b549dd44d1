import type { AddressMessage } from './address-message.js'
import { formatMac } from './ethernet.js'
import { formatIpv4 } from './ip-text.js'

/** RFC 826: hardware space, protocol space, both lengths, opcode. */
const ETHERNET_IPV4 = Buffer.from([0, 1, 0x08, 0, 6, 4])
const packetBytes = 28
const REQUEST = 1
const REPLY = 2

/**
 * What the sender of an ARP packet says of itself, gratuitous or not. A probe says nothing: its sender's address is
 * 0.0.0.0 (RFC 5227 §2.1.1). Undefined also for what is no ARP of IPv4 over Ethernet.
 */
export function readArp(packet: Buffer): AddressMessage | undefined {
  if (packet.length < packetBytes || !packet.subarray(0, 6).equals(ETHERNET_IPV4)) return undefined
  const opcode = packet.readUInt16BE(6)
  if (opcode !== REQUEST && opcode !== REPLY) return undefined
  const ip = formatIpv4(packet.subarray(14, 18))
  if (ip === '0.0.0.0') return undefined
  return { kind: 'claim', protocol: 'arp', ip, mac: formatMac(packet.subarray(8, 14)) }
}
