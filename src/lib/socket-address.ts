import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { normalize } from 'node:path'
import type { Brand } from './brand.js'
import { type Parsed, parsed, refused } from './parsed.js'

/** Absolute, and short enough for `sun_path` of unix(7). */
export type SocketPath = Brand<string, 'SocketPath'>

export interface UnixAddress {
  readonly kind: 'unix'
  readonly path: SocketPath
}

export interface TcpAddress {
  readonly kind: 'tcp'
  /** An IP address, without brackets. */
  readonly host: string
  /** 0: any free one. */
  readonly port: number
}

/** TCP on an address of this host's loopback. */
export type LoopbackAddress = TcpAddress & Brand<object, 'Loopback'>

/** `sun_path` has 108 bytes, the last of them NUL. */
export const maxSocketPathBytes = 107

/** Takes `unix:/run/some.sock`. */
export function parseUnixAddress(text: string): Parsed<UnixAddress> {
  if (!text.startsWith('unix:/')) return refused('is not unix: and an absolute path')
  const path = normalize(text.slice('unix:'.length)).replace(/^\/+/, '/')
  if (path.includes('\0')) return refused('holds a NUL')
  if (path.endsWith('/')) return refused('names a directory')
  const bytes = Buffer.byteLength(path)
  if (bytes > maxSocketPathBytes)
    return refused(`has a path of ${bytes} bytes, a socket's has at most ${maxSocketPathBytes}`)
  return parsed({ kind: 'unix', path: path as SocketPath })
}

/** Takes `127.0.0.1:9477`, `[::1]:9477` or `localhost:9477` (which is 127.0.0.1); `otherwise` as below. */
export function parseLoopbackAddress(text: string, otherwise?: string): Parsed<LoopbackAddress> {
  const address = parseTcpAddress(text, otherwise)
  if (!address.ok) return address
  if (isLoopback(address.value.host)) return parsed(address.value as LoopbackAddress)
  return refused('is not on the loopback, and everywhere else plaintext would let anybody in')
}

/**
 * Takes `192.0.2.1:50051`, `[2001:db8::1]:50051` or `localhost:50051` (which is 127.0.0.1).
 * @param otherwise said of what has not that form, by who takes other forms too
 */
export function parseTcpAddress(text: string, otherwise = 'is not HOST:PORT'): Parsed<TcpAddress> {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]*)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (digits === undefined || port > 65535) return refused(otherwise)
  const host = plain === 'localhost' ? '127.0.0.1' : (plain ?? bracketed ?? '')
  if (!(bracketed === undefined ? isIPv4(host) : isIPv6(host))) return refused('has a host that is not an IP address')
  return parsed({ kind: 'tcp', host, port })
}

/** As the parsers above take it. */
export function formatAddress(address: UnixAddress | TcpAddress): string {
  switch (address.kind) {
    case 'unix':
      return `unix:${address.path}`
    case 'tcp':
      return `${isIPv6(address.host) ? `[${address.host}]` : address.host}:${address.port}`
  }
}

/** 127.0.0.0/8 (RFC 1122 §3.2.1.3) and ::1 (RFC 4291 §2.5.3). */
export function isLoopback(host: string): boolean {
  const loopback = new BlockList()
  loopback.addSubnet('127.0.0.0', 8, 'ipv4')
  loopback.addAddress('::1', 'ipv6')
  return loopback.check(host, isIPv4(host) ? 'ipv4' : 'ipv6')
}
