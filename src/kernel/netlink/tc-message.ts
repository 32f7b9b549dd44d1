import { littleEndian, viewOf } from '../../lib/byte-order.js'

// rtnetlink(7), <linux/rtnetlink.h>
export const TCA_KIND = 1
export const TCA_OPTIONS = 2

// <linux/pkt_sched.h>, <linux/pkt_cls.h>
export const TC_H_ROOT = 0xffff_ffff
export const TC_H_INGRESS = 0xffff_fff1

const tcmsgBytes = 20

/** `struct tcmsg`, with which all messages about qdiscs and filters begin: whose they are, and below what. */
export interface TcHeader {
  readonly index: number
  readonly handle: number
  readonly parent: number
}

export function encodeTcHeader({ index, handle, parent }: TcHeader): Uint8Array {
  const out = new Uint8Array(tcmsgBytes)
  const view = viewOf(out)
  // Family and padding come first.
  view.setInt32(4, index, littleEndian)
  view.setUint32(8, handle, littleEndian)
  view.setUint32(12, parent, littleEndian)
  return out
}

export function decodeTcHeader(payload: Uint8Array): TcHeader {
  const view = viewOf(payload)
  return {
    index: view.getInt32(4, littleEndian),
    handle: view.getUint32(8, littleEndian),
    parent: view.getUint32(12, littleEndian),
  }
}

/** The attributes that follow the header. */
export function afterTcHeader(payload: Uint8Array): Uint8Array {
  return payload.subarray(tcmsgBytes)
}
