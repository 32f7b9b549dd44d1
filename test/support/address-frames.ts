import { addressBytes, macBytes } from './address.js'
import { internetChecksum } from './ping.js'

/** Frames that say something of an address, as they are on the wire, padded to Ethernet's least length. */

const broadcast = 'ff:ff:ff:ff:ff:ff'
const minFrameBytes = 60

export interface FrameFields {
  /** Source of the Ethernet frame. */
  readonly source: string
  readonly destination?: string
  /** 802.1Q tags, the outermost first. */
  readonly tags?: readonly number[]
}

export function ethernet(
  { source, destination = broadcast, tags = [] }: FrameFields,
  etherType: number,
  payload: Uint8Array,
) {
  const types = tags.flatMap(tag => [0x81, 0x00, tag >> 8, tag & 0xff])
  const frame = Buffer.concat([
    macBytes(destination),
    macBytes(source),
    Buffer.from([...types, etherType >> 8, etherType & 0xff]),
    payload,
  ])
  return frame.length >= minFrameBytes ? frame : Buffer.concat([frame, Buffer.alloc(minFrameBytes - frame.length)])
}

export interface ArpFields extends FrameFields {
  readonly ip: string
  /** Sender's hardware address; the frame's source if not given. */
  readonly mac?: string
  /** A request for an address of its own if not given, which is a gratuitous one. */
  readonly opcode?: number
  readonly target?: string
}

/** RFC 826. */
export function arp(fields: ArpFields): Buffer {
  const { source, mac = source, ip, opcode = 1, target = ip } = fields
  const head = Buffer.from([0, 1, 8, 0, 6, 4, 0, opcode])
  const body = [macBytes(mac), addressBytes(ip), Buffer.alloc(6), addressBytes(target)]
  return ethernet(fields, 0x0806, Buffer.concat([head, ...body]))
}

export interface NdpFields extends FrameFields {
  readonly type: 'solicitation' | 'advertisement'
  /** Of the IPv6 header; a probe for duplicates comes from `::`. */
  readonly from: string
  readonly target: string
  /** In an option; without one the message names no link-layer address. */
  readonly mac?: string
  readonly hopLimit?: number
}

/** RFC 4861 §4.3 and §4.4, to all nodes. */
export function ndp(fields: NdpFields): Buffer {
  const { type, from, target, mac, hopLimit = 255 } = fields
  const isSolicitation = type === 'solicitation'
  const option = mac === undefined ? [] : [isSolicitation ? 1 : 2, 1, ...macBytes(mac)]
  const flags = isSolicitation ? 0 : 0x20
  const message = Buffer.from([isSolicitation ? 135 : 136, 0, 0, 0, flags, 0, 0, 0, ...addressBytes(target), ...option])
  const [source, destination] = [addressBytes(from), addressBytes('ff02::1')]
  const pseudo = Buffer.concat([source, destination, Buffer.from([0, 0, 0, message.length, 0, 0, 0, 58])])
  message.writeUInt16BE(internetChecksum(Buffer.concat([pseudo, message])), 2)
  const header = Buffer.from([0x60, 0, 0, 0, 0, message.length, 58, hopLimit])
  const packet = Buffer.concat([header, source, destination, message])
  return ethernet({ destination: '33:33:00:00:00:01', ...fields }, 0x86dd, packet)
}

export interface DhcpFields extends FrameFields {
  /** RFC 2132 §9.6: 1 DISCOVER, 3 REQUEST, 5 ACK… */
  readonly type: number
  readonly transaction: number
  /** The client's hardware address. */
  readonly client: string
  /** What a server gives. */
  readonly ip?: string
}

/** RFC 2131 §2, between a client without an address and a server. */
export function dhcp(fields: DhcpFields): Buffer {
  const { type, transaction, client, ip = '0.0.0.0' } = fields
  const isRequest = type === 1 || type === 3
  const bootp = Buffer.alloc(240)
  bootp.set([isRequest ? 1 : 2, 1, 6, 0])
  bootp.writeUInt32BE(transaction, 4)
  bootp.set(addressBytes(ip), 16)
  bootp.set(macBytes(client), 28)
  bootp.writeUInt32BE(0x63825363, 236)
  const message = Buffer.concat([bootp, Buffer.from([0, 53, 1, type, 255])])
  const [from, to] = isRequest ? [68, 67] : [67, 68]
  const udp = Buffer.from([0, from, 0, to, (message.length + 8) >> 8, (message.length + 8) & 0xff, 0, 0])
  const length = 20 + udp.length + message.length
  const header = Buffer.from([
    0x45,
    0,
    length >> 8,
    length & 0xff,
    0,
    0,
    0,
    0,
    64,
    17,
    0,
    0,
    0,
    0,
    0,
    0,
    255,
    255,
    255,
    255,
  ])
  header.set(addressBytes(isRequest ? '0.0.0.0' : '10.0.0.254'), 12)
  header.writeUInt16BE(internetChecksum(header), 10)
  return ethernet(fields, 0x0800, Buffer.concat([header, udp, message]))
}
