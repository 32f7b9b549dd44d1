import type { AddressMessage } from './address-message.js'
import { formatMac } from './ethernet.js'
import { formatIpv4 } from './ip-text.js'

/** RFC 791 §3.1, RFC 768. */
const minHeaderBytes = 20
const UDP = 17
const udpHeaderBytes = 8

/** RFC 2131 §4.1. */
export const serverPort = 67
export const clientPort = 68

/** RFC 2131 §2: the options follow 236 bytes and the magic cookie. */
const BOOTREQUEST = 1
const BOOTREPLY = 2
const transactionAt = 4
const yourAddressAt = 16
const clientMacAt = 28
const cookieAt = 236
const MAGIC_COOKIE = 0x63825363
const optionsAt = 240
const ETHERNET = Buffer.from([1, 6])

/** RFC 2132 §3.1, §3.2 and §9.6. */
const PAD = 0
const END = 255
const MESSAGE_TYPE = 53
const DISCOVER = 1
const REQUEST = 3
const ACK = 5

/**
 * What a DHCP message in an IPv4 packet says: a client that asks (with rapid commit the DISCOVER is answered at once, RFC
 * 4039), or a server that gives. An acknowledgement without an address answers a DHCPINFORM and gives nothing.
 */
export function readDhcp(packet: Buffer): AddressMessage | undefined {
  const bootp = bootpOf(packet)
  if (bootp === undefined) return undefined
  const { isRequest, message } = bootp
  const type = messageType(message.subarray(optionsAt))
  const mac = formatMac(message.subarray(clientMacAt, clientMacAt + 6))
  const transaction = message.readUInt32BE(transactionAt)
  if (isRequest) return type === DISCOVER || type === REQUEST ? { kind: 'request', mac, transaction } : undefined
  const ip = formatIpv4(message.subarray(yourAddressAt, yourAddressAt + 4))
  return type === ACK && ip !== '0.0.0.0' ? { kind: 'lease', ip, mac, transaction } : undefined
}

/** The BOOTP message between a client and a server of which neither is a relay. */
function bootpOf(packet: Buffer): { readonly isRequest: boolean; readonly message: Buffer } | undefined {
  if (packet.length < minHeaderBytes || packet.readUInt8(0) >> 4 !== 4 || packet.readUInt8(9) !== UDP) return undefined
  // A fragment beyond the first.
  if ((packet.readUInt16BE(6) & 0x1fff) !== 0) return undefined
  const datagram = packet.subarray((packet.readUInt8(0) & 0xf) * 4)
  const message = datagram.subarray(udpHeaderBytes)
  if (message.length < optionsAt || message.readUInt32BE(cookieAt) !== MAGIC_COOKIE) return undefined
  if (!message.subarray(1, 3).equals(ETHERNET)) return undefined
  const operation = message.readUInt8(0)
  const [from, to] = [datagram.readUInt16BE(0), datagram.readUInt16BE(2)]
  if (operation === BOOTREQUEST && to === serverPort) return { isRequest: true, message }
  if (operation === BOOTREPLY && from === serverPort && to === clientPort) return { isRequest: false, message }
  return undefined
}

function messageType(options: Buffer): number | undefined {
  for (let at = 0; at + 2 < options.length; ) {
    const code = options.readUInt8(at)
    if (code === END) return undefined
    if (code === MESSAGE_TYPE) return options.readUInt8(at + 2)
    at += code === PAD ? 1 : 2 + options.readUInt8(at + 1)
  }
  return undefined
}
