import type { Brand } from '../lib/brand.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import type { PathBelow } from '../lib/safe-file.js'

/** The n-th file of a ring, from 1: of `lab/trace.pcap` the second is `lab/trace-00002.pcap`. */
export function ringFileName(name: PathBelow, number: number): PathBelow {
  const [, stem = '', extension = ''] = /^([^]*?[^/])(\.[^./]*)?$/.exec(name) ?? []
  return `${stem}-${String(number).padStart(5, '0')}${extension}` as PathBelow
}

/** The last of its names. */
export function baseNameOf(name: PathBelow): PathBelow {
  return name.slice(name.lastIndexOf('/') + 1) as PathBelow
}

/** Bytes of a packet that are kept: 1 to libpcap's MAXIMUM_SNAPLEN. */
export type SnapLen = Brand<number, 'SnapLen'>

const maxSnapLen = 262_144

export function parseSnapLen(value: number): Parsed<SnapLen> {
  if (!Number.isInteger(value) || value < 1 || value > maxSnapLen)
    return refused(`is ${value}; it is 1 to ${maxSnapLen} bytes`)
  return parsed(value as SnapLen)
}

/** What a request's 0 stands for. */
export const defaultSnapLen = 1600 as SnapLen
