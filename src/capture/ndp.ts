import type { AddressMessage } from './address-message.js'
import { formatMac } from './ethernet.js'
import { formatIpv6 } from './ip-text.js'

/** RFC 8200 §3, RFC 4443 §2.1. */
const headerBytes = 40
const ICMPV6 = 58

/** RFC 4861 §4.3 and §4.4: both are 24 bytes before their options. */
const NEIGHBOR_SOLICITATION = 135
const NEIGHBOR_ADVERTISEMENT = 136
const messageBytes = 24

/** RFC 4861 §4.6.1. */
const SOURCE_LINK_LAYER_ADDRESS = 1
const TARGET_LINK_LAYER_ADDRESS = 2

/** RFC 4861 §7.1: a router would have made it less. */
const onLinkHopLimit = 255

/**
 * What a neighbour solicitation or advertisement in an IPv6 packet says of its sender. A solicitation from `::` is a probe
 * for its target. Where the message names no link-layer address it is `source`, the frame's. The checksum is not looked at:
 * between devices of one host it is often left for a network card to fill in.
 */
export function readNdp(packet: Buffer, source: string): AddressMessage | undefined {
  if (packet.length < headerBytes + messageBytes) return undefined
  const isOnLink =
    packet.readUInt8(0) >> 4 === 6 && packet.readUInt8(6) === ICMPV6 && packet.readUInt8(7) === onLinkHopLimit
  const message = packet.subarray(headerBytes, headerBytes + packet.readUInt16BE(4))
  if (!isOnLink || message.length < messageBytes || message.readUInt8(1) !== 0) return undefined
  const from = formatIpv6(packet.subarray(8, 24))
  const target = formatIpv6(message.subarray(8, 24))
  const options = message.subarray(messageBytes)
  switch (message.readUInt8(0)) {
    case NEIGHBOR_SOLICITATION:
      if (from === '::') return { kind: 'probe', ip: target, mac: source }
      return claim(from, macOption(options, SOURCE_LINK_LAYER_ADDRESS) ?? source)
    case NEIGHBOR_ADVERTISEMENT:
      return claim(target, macOption(options, TARGET_LINK_LAYER_ADDRESS) ?? source)
    default:
      return undefined
  }
}

function claim(ip: string, mac: string): AddressMessage {
  return { kind: 'claim', protocol: 'ndp', ip, mac }
}

/** RFC 4861 §4.6: type, length in units of eight bytes, and for these two six bytes of address. */
function macOption(options: Buffer, wanted: number): string | undefined {
  for (let at = 0; at + 8 <= options.length; ) {
    if (options.readUInt8(at) === wanted) return formatMac(options.subarray(at + 2, at + 8))
    const units = options.readUInt8(at + 1)
    if (units === 0) return undefined
    at += units * 8
  }
  return undefined
}
