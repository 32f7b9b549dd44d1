import type { PeerCertificate } from 'node:tls'
import { type Door, lesserRole, type Role, roles } from './door.js'

/** Who is at the other end of a connection. */
export interface Caller {
  /** For logs and transaction comments: printable ASCII, at most 120 characters. */
  readonly name: string
  /** Callers of one id share what one of them may use. */
  readonly id: string
  /** Undefined: somebody whom nobody has given a role. */
  readonly role: Role | undefined
}

/** The process that connected to a unix socket (unix(7), SO_PEERCRED). */
export interface ProcessIdentity {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

export function processCaller(door: Door, identity: ProcessIdentity | undefined): Caller {
  if (identity === undefined) return { name: 'unix', id: 'unix', role: door.role }
  const { pid, uid } = identity
  return { name: `uid=${uid} pid=${pid}`, id: `uid ${uid}`, role: door.role }
}

export function loopbackCaller(door: Door, address: string): Caller {
  return { name: address, id: 'loopback', role: door.role }
}

/** The certificate was verified by then: the authority behind it vouches for every name in it. */
export function certificateCaller(door: Door, address: string, certificate: PeerCertificate): Caller {
  const role = roleOfNames(certificate.subjectaltname ?? '')
  const fingerprint = certificate.fingerprint256.replaceAll(':', '').toLowerCase()
  const { CN } = certificate.subject
  // Last, and without what parts callers in a transaction's comment: it is not to look like more than itself.
  const commonName = ([CN].flat()[0] ?? '').replaceAll(',', '?')
  return {
    name: printable(`${address} sha256=${fingerprint.slice(0, 16)} cn=${commonName}`, 120),
    id: `certificate ${fingerprint}`,
    role: role === undefined ? undefined : lesserRole(role, door.role),
  }
}

/**
 * The greatest role among the URIs `urn:ovs-bridged:role:ROLE` of a certificate's subjectAltName, which Node.js gives as
 * `DNS:host, URI:urn:…`; a name that could be taken for more than one is quoted there, and none of ours needs quotes.
 */
export function roleOfNames(subjectAltName: string): Role | undefined {
  const names = subjectAltName.replaceAll(/"(?:[^"\\]|\\.)*"/g, '').split(', ')
  return roles.findLast(role => names.includes(`URI:urn:ovs-bridged:role:${role}`))
}

export function printable(text: string, maxChars: number): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, maxChars)
}
