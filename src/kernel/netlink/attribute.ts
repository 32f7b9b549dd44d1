import { littleEndian, viewOf } from '../../lib/byte-order.js'

/** One attribute, `struct nlattr` (netlink(7), `<linux/netlink.h>`): a type and its bytes, in host order. */
export interface Attribute {
  readonly type: number
  readonly value: Uint8Array
}

/** Attributes by type. Of several of one type the last counts, as in the kernel's nla_parse. */
export type Attributes = ReadonlyMap<number, Uint8Array>

const headerBytes = 4
/** The upper two bits say nested and network byte order (NLA_F_NESTED, NLA_F_NET_BYTEORDER). */
const NLA_TYPE_MASK = 0x3fff
const NLA_F_NESTED = 0x8000

/** Headers and attributes begin at multiples of 4 (NLA_ALIGNTO, NLMSG_ALIGNTO). */
export function align(bytes: number): number {
  return (bytes + 3) & ~3
}

export function u8(type: number, value: number): Attribute {
  return { type, value: Uint8Array.of(value) }
}

export function u32(type: number, value: number): Attribute {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, value, littleEndian)
  return { type, value: bytes }
}

/** A string with its closing NUL, which every string policy of the kernel takes. */
export function text(type: number, value: string): Attribute {
  return { type, value: Buffer.from(`${value}\0`) }
}

/** Bytes as they are: addresses, structs, strings without a NUL. */
export function bytes(type: number, value: Uint8Array): Attribute {
  return { type, value }
}

export function nested(type: number, attributes: readonly Attribute[]): Attribute {
  return { type: type | NLA_F_NESTED, value: encodeAttributes(attributes) }
}

export function encodeAttributes(attributes: readonly Attribute[]): Uint8Array {
  const total = attributes.reduce((sum, attribute) => sum + align(headerBytes + attribute.value.length), 0)
  const out = new Uint8Array(total)
  const view = viewOf(out)
  let at = 0
  for (const { type, value } of attributes) {
    view.setUint16(at, headerBytes + value.length, littleEndian)
    view.setUint16(at + 2, type, littleEndian)
    out.set(value, at + headerBytes)
    at += align(headerBytes + value.length)
  }
  return out
}

/** Reads attributes to the end of `block`. The values are views on it, not copies. Throws RangeError when they do not fit. */
export function decodeAttributes(block: Uint8Array): Attributes {
  const view = viewOf(block)
  const found = new Map<number, Uint8Array>()
  let at = 0
  while (at + headerBytes <= block.length) {
    const length = view.getUint16(at, littleEndian)
    if (length < headerBytes || at + length > block.length) {
      throw new RangeError(`netlink attribute of ${length} bytes with ${block.length - at} left`)
    }
    const type = view.getUint16(at + 2, littleEndian) & NLA_TYPE_MASK
    found.set(type, block.subarray(at + headerBytes, at + length))
    at += align(length)
  }
  return found
}

/** The attributes nested under `type`; none when it is not there. */
export function readNested(attributes: Attributes, type: number): Attributes {
  return decodeAttributes(attributes.get(type) ?? new Uint8Array())
}

export function readU8(attributes: Attributes, type: number): number | undefined {
  return attributes.get(type)?.at(0)
}

export function readU32(attributes: Attributes, type: number): number | undefined {
  const value = attributes.get(type)
  return value === undefined ? undefined : viewOf(value).getUint32(0, littleEndian)
}

/** A string up to its NUL, or to the end where the kernel sends none. */
export function readText(attributes: Attributes, type: number): string | undefined {
  const value = attributes.get(type)
  if (value === undefined) return undefined
  const end = value.indexOf(0)
  return Buffer.from(end < 0 ? value : value.subarray(0, end)).toString()
}
