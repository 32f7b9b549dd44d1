import { codeOf, messageOf } from '../lib/thrown.js'

/** One field of a request that cannot be taken, spelled as a client writes it: `taps[17].mac`. */
export interface Violation {
  readonly field: string
  readonly description: string
}

interface Told {
  readonly message: string
  readonly metadata?: Readonly<Record<string, string>>
}

/** What can go wrong with an operation of the domain. The gRPC status of each kind stands in `server/status.ts`. */
export type Problem = Told &
  (
    | { readonly kind: 'invalid'; readonly reason: 'INVALID_FIELD'; readonly violations: readonly Violation[] }
    | {
        readonly kind: 'not-found'
        readonly reason:
          | 'BRIDGE_NOT_FOUND'
          | 'TAP_NOT_FOUND'
          | 'NETNS_NOT_FOUND'
          | 'DEVICE_NOT_FOUND'
          | 'BOND_NOT_FOUND'
          | 'MIRROR_NOT_FOUND'
          | 'TRUNK_NOT_FOUND'
          | 'TUNNEL_NOT_FOUND'
          | 'NO_NETFLOW'
          | 'WRITER_NOT_FOUND'
          | 'CAPTURE_NOT_FOUND'
      }
    | {
        readonly kind: 'already-exists'
        readonly reason: 'NAME_TAKEN' | 'TUNNEL_EXISTS' | 'NETFLOW_EXISTS' | 'WRITER_EXISTS' | 'FILE_EXISTS'
      }
    | { readonly kind: 'not-owned'; readonly reason: 'NOT_OWNED' }
    | { readonly kind: 'in-use'; readonly reason: 'IN_BOND' | 'IN_MIRROR' }
    | { readonly kind: 'unsupported'; readonly reason: 'UNSUPPORTED' }
    | { readonly kind: 'busy'; readonly reason: 'CONFLICT' }
    | { readonly kind: 'exhausted'; readonly reason: 'EXHAUSTED' }
    | { readonly kind: 'backend-unavailable'; readonly reason: 'OVSDB_UNAVAILABLE' | 'SHUTTING_DOWN' }
    | { readonly kind: 'outcome-unknown'; readonly reason: 'OUTCOME_UNKNOWN' }
    | { readonly kind: 'not-realised'; readonly reason: 'NOT_REALISED' }
    | { readonly kind: 'device-refused'; readonly reason: 'DEVICE_REFUSED' }
    | { readonly kind: 'file-refused'; readonly reason: 'FILE_REFUSED' }
    | { readonly kind: 'deadline'; readonly reason: 'DEADLINE_EXCEEDED' }
    | { readonly kind: 'cancelled'; readonly reason: 'CANCELLED' }
    | { readonly kind: 'unauthenticated'; readonly reason: 'UNAUTHENTICATED' }
    | { readonly kind: 'not-permitted'; readonly reason: 'PERMISSION_DENIED' }
  )

/** A stable reason: the names of the proto's ErrorReason without their prefix. */
export type Reason = Problem['reason']

/** The one error of the domain. */
export class BridgeError extends Error {
  override readonly name = 'BridgeError'
  readonly problem: Problem

  constructor(problem: Problem, options?: { readonly cause?: unknown }) {
    super(problem.message, options)
    this.problem = problem
  }
}

/** Bad input, named field by field. */
export function invalid(violations: readonly Violation[]): BridgeError {
  const message = violations.map(v => `${v.field}: ${v.description}`).join('; ')
  return new BridgeError({ kind: 'invalid', reason: 'INVALID_FIELD', message, violations })
}

export function bridgeNotFound(name: string): BridgeError {
  return new BridgeError({
    kind: 'not-found',
    reason: 'BRIDGE_NOT_FOUND',
    message: `no managed bridge is named ${name}`,
  })
}

export function tapNotFound(name: string): BridgeError {
  return new BridgeError({ kind: 'not-found', reason: 'TAP_NOT_FOUND', message: `no tap is named ${name}` })
}

export function nameTaken(name: string, by: string): BridgeError {
  return new BridgeError({
    kind: 'already-exists',
    reason: 'NAME_TAKEN',
    message: `${name} is already the name of ${by}`,
  })
}

export function deviceNotFound(name: string): BridgeError {
  const message = `no network device is named ${name}`
  return new BridgeError({ kind: 'not-found', reason: 'DEVICE_NOT_FOUND', message })
}

export function trunkNotFound(name: string, bridge: string): BridgeError {
  const message = `${name} is no trunk of bridge ${bridge}`
  return new BridgeError({ kind: 'not-found', reason: 'TRUNK_NOT_FOUND', message })
}

export function tunnelNotFound(name: string, bridge: string): BridgeError {
  const message = `${name} is no tunnel of bridge ${bridge}`
  return new BridgeError({ kind: 'not-found', reason: 'TUNNEL_NOT_FOUND', message })
}

export function tunnelExists(name: string, what: string): BridgeError {
  const message = `there is a ${what} already: ${name}`
  return new BridgeError({ kind: 'already-exists', reason: 'TUNNEL_EXISTS', message, metadata: { tunnel: name } })
}

/** What this kernel or datapath cannot do; `remedy` is a command or a setting. */
export function unsupported(message: string, remedy: string): BridgeError {
  return new BridgeError({ kind: 'unsupported', reason: 'UNSUPPORTED', message, metadata: { remedy } })
}

/** A limit of the service, of Open vSwitch or of this host is reached. */
export function exhausted(message: string): BridgeError {
  return new BridgeError({ kind: 'exhausted', reason: 'EXHAUSTED', message })
}

/** Somebody else has changed the same thing, or is about to. */
export function busy(message: string, options?: { readonly cause?: unknown }): BridgeError {
  return new BridgeError({ kind: 'busy', reason: 'CONFLICT', message }, options)
}

/** `why` goes on from the name: “is a port of the instance other”. */
export function notOwned(name: string, why: string): BridgeError {
  return new BridgeError({ kind: 'not-owned', reason: 'NOT_OWNED', message: `${name} ${why}` })
}

/** A tap that a bond or a mirror holds where it is. */
export function inUse(name: string, reason: 'IN_BOND' | 'IN_MIRROR', what: string): BridgeError {
  return new BridgeError({ kind: 'in-use', reason, message: `${name} is ${what}` })
}

export function bondNotFound(name: string): BridgeError {
  const message = `no bond is named ${name}`
  return new BridgeError({ kind: 'not-found', reason: 'BOND_NOT_FOUND', message })
}

export function mirrorNotFound(destination: string): BridgeError {
  const message = `no mirror hands its copies to ${destination}`
  return new BridgeError({ kind: 'not-found', reason: 'MIRROR_NOT_FOUND', message })
}

export function captureNotFound(id: number): BridgeError {
  return new BridgeError({ kind: 'not-found', reason: 'CAPTURE_NOT_FOUND', message: `no capture has the id ${id}` })
}

/** A tap that is wanted on a bridge and is not there. */
export function tapNotOnBridge(name: string, bridge: string): BridgeError {
  const message = `no tap on bridge ${bridge} is named ${name}`
  return new BridgeError({ kind: 'not-found', reason: 'TAP_NOT_FOUND', message })
}

export function noNetflow(bridge: string): BridgeError {
  return new BridgeError({ kind: 'not-found', reason: 'NO_NETFLOW', message: `bridge ${bridge} has no NetFlow` })
}

/** `whose` goes before the noun: “a”, “somebody else's”. */
export function netflowExists(bridge: string, whose: string): BridgeError {
  const message = `bridge ${bridge} has ${whose} NetFlow already`
  return new BridgeError({ kind: 'already-exists', reason: 'NETFLOW_EXISTS', message })
}

export function writerNotFound(name: string, bridge: string): BridgeError {
  const message = `the NetFlow of bridge ${bridge} has no writer ${name}`
  return new BridgeError({ kind: 'not-found', reason: 'WRITER_NOT_FOUND', message })
}

export function writerExists(name: string, bridge: string): BridgeError {
  const message = `the NetFlow of bridge ${bridge} has a writer ${name} already`
  return new BridgeError({ kind: 'already-exists', reason: 'WRITER_EXISTS', message })
}

/** What open(2) said of a file that was to be made. */
export function fileRefused(path: string, cause: unknown): BridgeError {
  // Node.js adds the call and the path: by now that of a descriptor.
  const why = messageOf(cause).replace(/, \w+ '.*$/s, '')
  return new BridgeError(
    codeOf(cause) === 'EEXIST'
      ? { kind: 'already-exists', reason: 'FILE_EXISTS', message: `there is a file ${path} already` }
      : { kind: 'file-refused', reason: 'FILE_REFUSED', message: `the file ${path} cannot be made: ${why}` },
    { cause },
  )
}
