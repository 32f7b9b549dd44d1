import { type Parsed, parsed, refused } from '../lib/parsed.js'
import {
  isLoopback,
  parseTcpAddress,
  parseUnixAddress,
  type SocketPath,
  type TcpAddress,
} from '../lib/socket-address.js'

/** What a caller may do; each role includes those before it. */
export const roles = ['viewer', 'capture', 'operator', 'admin'] as const
export type Role = (typeof roles)[number]

/** Whether a caller of role `has` may do what takes the role `needed`. */
export function includesRole(has: Role, needed: Role): boolean {
  return roles.indexOf(has) >= roles.indexOf(needed)
}

export function lesserRole(one: Role, other: Role): Role {
  return includesRole(one, other) ? other : one
}

/** A place where the service is reached. Nobody who comes through it is more than its role. */
export type Door =
  | {
      readonly kind: 'unix'
      readonly path: SocketPath
      readonly role: Role
      /** Permission bits of the socket. */
      readonly mode: number
      /** Name or number of the group that the socket is given to; undefined: that of the process. */
      readonly group: string | undefined
    }
  /** Mutual TLS; the client's certificate names its role. */
  | ({ readonly kind: 'tls'; readonly role: Role } & Endpoint)
  /** Plaintext, on the loopback only: whoever runs a process here may come in. */
  | ({ readonly kind: 'loopback'; readonly role: Role } & Endpoint)
  /** A unix socket that systemd passed, by its FileDescriptorName= (systemd.socket(5)). */
  | { readonly kind: 'inherited'; readonly name: string; readonly role: Role }

interface Endpoint {
  readonly endpoint: TcpAddress
}

export interface DoorPolicy {
  /** Plaintext is served on loopback addresses. */
  readonly insecureLoopback: boolean
  /** There are certificates for TLS. */
  readonly tls: boolean
}

const defaultMode = 0o660

/**
 * Takes `unix:/PATH`, `HOST:PORT` or `systemd:NAME`, and after commas `role=ROLE` and, for a unix socket, `mode=OCTAL` and
 * `group=GROUP`. Without a role a unix socket or a certificate is believed up to admin; plaintext TCP only looks.
 */
export function parseDoor(text: string, policy: DoorPolicy): Parsed<Door> {
  const [address = '', ...options] = text.split(',')
  const given = parseOptions(options)
  if (!given.ok) return given
  const { role, mode, group } = given.value
  if (!address.startsWith('unix:') && (mode ?? group) !== undefined) {
    return refused('has a mode or a group, which only a socket of unix:/PATH has')
  }
  if (address.startsWith('unix:')) {
    const unix = parseUnixAddress(address)
    if (!unix.ok) return unix
    return parsed({ ...unix.value, role: role ?? 'admin', mode: mode ?? defaultMode, group })
  }
  if (address.startsWith('systemd:')) {
    const name = address.slice('systemd:'.length)
    if (!/^[\x21-\x39\x3b-\x7e]{1,255}$/.test(name)) return refused('lacks the FileDescriptorName of a socket unit')
    return parsed({ kind: 'inherited', name, role: role ?? 'admin' })
  }
  const tcp = parseTcpAddress(address, 'is none of unix:/PATH, HOST:PORT and systemd:NAME')
  return tcp.ok ? tcpDoor(tcp.value, role, policy) : tcp
}

function tcpDoor(endpoint: TcpAddress, role: Role | undefined, { insecureLoopback, tls }: DoorPolicy): Parsed<Door> {
  if (insecureLoopback && isLoopback(endpoint.host)) {
    return parsed({ kind: 'loopback', endpoint, role: role ?? 'viewer' })
  }
  if (tls) return parsed({ kind: 'tls', endpoint, role: role ?? 'admin' })
  const otherwise = isLoopback(endpoint.host) ? ', or --insecure-loopback' : ''
  return refused(`needs --tls-cert, --tls-key and --tls-client-ca${otherwise}: TCP is served with mutual TLS`)
}

interface DoorOptions {
  readonly role?: Role
  readonly mode?: number
  readonly group?: string
}

type Writable<T> = { -readonly [K in keyof T]: T[K] }

function parseOptions(texts: readonly string[]): Parsed<DoorOptions> {
  const options: Writable<DoorOptions> = {}
  const seen = new Set<string>()
  for (const text of texts) {
    const [, key = '', value = ''] = /^([a-z]+)=(.+)$/.exec(text) ?? []
    const option = parseOption(key, value)
    if (!option.ok) return option
    if (seen.has(key)) return refused(`says ${key} twice`)
    seen.add(key)
    Object.assign(options, option.value)
  }
  return parsed(options)
}

function parseOption(key: string, value: string): Parsed<DoorOptions> {
  switch (key) {
    case 'role': {
      const role = roles.find(known => known === value)
      return role === undefined ? refused(`has a role that is none of ${roles.join(', ')}`) : parsed({ role })
    }
    case 'mode':
      return /^0?[0-7]{3}$/.test(value)
        ? parsed({ mode: Number.parseInt(value, 8) })
        : refused('has a mode that is not three octal digits')
    case 'group':
      return /^[\w.@-]{1,64}$/.test(value) ? parsed({ group: value }) : refused('has a group that is no name of one')
    default:
      return refused('has an option that is none of role=, mode= and group=')
  }
}
