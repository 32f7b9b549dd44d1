import { littleEndian, viewOf } from '../../lib/byte-order.js'
import { align, decodeAttributes, readText } from './attribute.js'

/** One netlink message, `struct nlmsghdr` and what follows it (netlink(7)). */
export interface NetlinkMessage {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  /** The address of the socket it is for; 0 is the kernel. */
  readonly portId: number
  readonly payload: Uint8Array
}

// <linux/netlink.h>
export const NLMSG_NOOP = 1
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
export const NLM_F_REQUEST = 0x1
export const NLM_F_ACK = 0x4
export const NLM_F_ECHO = 0x8
/** Something changed while the dump was under way: it may have holes or doubles. */
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
export const NLM_F_REPLACE = 0x100
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
const NLM_F_CAPPED = 0x100
const NLM_F_ACK_TLVS = 0x200
const NLMSGERR_ATTR_MSG = 1

const headerBytes = 16

export function encodeMessage(message: NetlinkMessage): Uint8Array {
  const length = headerBytes + message.payload.length
  const out = new Uint8Array(align(length))
  const view = viewOf(out)
  view.setUint32(0, length, littleEndian)
  view.setUint16(4, message.type, littleEndian)
  view.setUint16(6, message.flags, littleEndian)
  view.setUint32(8, message.sequence, littleEndian)
  view.setUint32(12, message.portId, littleEndian)
  out.set(message.payload, headerBytes)
  return out
}

/** Takes a datagram apart; the payloads are views on it. Throws RangeError when a length does not fit. */
export function decodeMessages(datagram: Uint8Array): NetlinkMessage[] {
  const view = viewOf(datagram)
  const messages: NetlinkMessage[] = []
  let at = 0
  while (at + headerBytes <= datagram.length) {
    const length = view.getUint32(at, littleEndian)
    if (length < headerBytes || at + length > datagram.length) {
      throw new RangeError(`netlink message of ${length} bytes with ${datagram.length - at} left`)
    }
    messages.push({
      type: view.getUint16(at + 4, littleEndian),
      flags: view.getUint16(at + 6, littleEndian),
      sequence: view.getUint32(at + 8, littleEndian),
      portId: view.getUint32(at + 12, littleEndian),
      payload: datagram.subarray(at + headerBytes, at + length),
    })
    at += align(length)
  }
  return messages
}

/** What the kernel made of a request: `errno` 0 is consent. */
export interface Acknowledgement {
  /** Positive, as errno(3). */
  readonly errno: number
  /** NLMSGERR_ATTR_MSG, empty when there is none. */
  readonly text: string
}

/**
 * Reads NLMSG_ERROR (`struct nlmsgerr`) or the NLMSG_DONE that closes a dump, extended acknowledgement included
 * (NETLINK_EXT_ACK and NETLINK_CAP_ACK in netlink(7)).
 */
export function decodeAcknowledgement(message: NetlinkMessage): Acknowledgement {
  const { payload } = message
  if (payload.length < 4) return { errno: 0, text: '' }
  const errno = 0 - viewOf(payload).getInt32(0, littleEndian)
  if ((message.flags & NLM_F_ACK_TLVS) === 0) return { errno, text: '' }
  const attributes = decodeAttributes(payload.subarray(attributesOffset(message)))
  return { errno, text: readText(attributes, NLMSGERR_ATTR_MSG) ?? '' }
}

/** After the number an error repeats the request: its header alone when capped, else all of it. */
function attributesOffset({ type, flags, payload }: NetlinkMessage): number {
  if (type === NLMSG_DONE) return 4
  if ((flags & NLM_F_CAPPED) !== 0) return 4 + headerBytes
  return 4 + align(viewOf(payload).getUint32(4, littleEndian))
}

/** The payload of most requests: a fixed struct and then attributes. */
export function concatenate(struct: Uint8Array, attributes: Uint8Array): Uint8Array {
  const out = new Uint8Array(align(struct.length) + attributes.length)
  out.set(struct)
  out.set(attributes, align(struct.length))
  return out
}
