import { constants } from 'node:os'
import { errnoName, type Syscalls } from '../lib/syscall.js'
import { KernelError, type Where } from './errors.js'
import type { Link, Refusal } from './link.js'
import {
  decodeLink,
  encodeLinkChange,
  encodeLinkDump,
  encodeLinkQuery,
  isDeviceMessage,
  type LinkSettings,
  RTM_GETLINK,
  RTM_NEWLINK,
  RTM_SETLINK,
} from './netlink/link-message.js'
import type { NetlinkAnswer, NetlinkSocket } from './netlink/socket.js'
import { isAborted } from './operations.js'

/** What every operation in the worker thread works with. */
export interface WorkerContext {
  readonly syscalls: Syscalls
  /** Of the namespace in which the Kernel was opened. */
  readonly route: NetlinkSocket
}

/** What an operation answers, and how to take it back when nobody waits for the answer any more. */
export interface Outcome<T> {
  readonly value: T
  readonly undo?: () => void
}

/** How something ended. */
export type Attempt<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: unknown }

export function attempted<T>(work: () => T): Attempt<T> {
  try {
    return { ok: true, value: work() }
  } catch (error) {
    return { ok: false, error }
  }
}

/** Throws when the caller is gone; for between two steps. */
export function throwIfAborted(stage: Int32Array, where: Where): void {
  if (isAborted(stage)) throw new KernelError({ ...where, kind: 'aborted' })
}

/** The answer, if the kernel consented. */
export function consented(answer: NetlinkAnswer, where: Where): NetlinkAnswer {
  if (answer.errno !== 0) throw refused(answer.errno, answer.text, where)
  return answer
}

/** The error for a positive errno, as most operations mean it. */
export function refused(errno: number, message: string, where: Where): KernelError {
  return new KernelError({ ...where, kind: kindOf(errno), refusal: refusalOf(errno, message) })
}

export function refusalOf(errno: number, message: string): Refusal {
  return { errno: errnoName(errno), message }
}

function kindOf(errno: number): 'exists' | 'no-device' | 'not-permitted' | 'refused' {
  switch (errno) {
    case constants.errno.EEXIST:
      return 'exists'
    case constants.errno.ENODEV:
      return 'no-device'
    case constants.errno.EPERM:
    case constants.errno.EACCES:
      return 'not-permitted'
    default:
      return 'refused'
  }
}

/** The device of exactly this name. The kernel also finds it by its alternative names, which are not ours. */
export function findLink({ route }: WorkerContext, name: string, operation: string): Link | undefined {
  const where = { operation, device: name }
  const answer = route.request({ type: RTM_GETLINK, payload: encodeLinkQuery(0, name) })
  if (answer.errno === constants.errno.ENODEV) return undefined
  const link = linksIn(consented(answer, where))[0]
  return link?.name === name ? link : undefined
}

export function readLink({ route }: WorkerContext, index: number, where: Where): Link {
  const answer = consented(route.request({ type: RTM_GETLINK, payload: encodeLinkQuery(index, undefined) }), where)
  const link = linksIn(answer)[0]
  if (link === undefined)
    throw new KernelError({ ...where, kind: 'unexpected', detail: 'the kernel answered without the device' })
  return link
}

export function dumpLinks({ route }: WorkerContext, operation: string, statistics: boolean): Link[] {
  return linksIn(consented(route.dump({ type: RTM_GETLINK, payload: encodeLinkDump(statistics) }), { operation }))
}

function linksIn(answer: NetlinkAnswer): Link[] {
  return answer.messages
    .filter(message => message.type === RTM_NEWLINK && isDeviceMessage(message.payload))
    .map(message => decodeLink(message.payload))
}

/** Below this, the minimum of RFC 8200 §5, the kernel takes IPv6 off a device. */
const minIpv6MtuBytes = 1280

/**
 * How a device goes to Open vSwitch. ovs-vswitchd makes each of its ports promiscuous, by reading the flags and writing them
 * back: one more link event, for each of which it walks over all its ports, and an IFF_UP of ours in between would be lost.
 */
export const forSwitch = { up: true, promiscuous: true } as const

/** What is to be set on one device. */
export interface SilentChange {
  /** 0: by the name in `settings`. */
  readonly index: number
  readonly settings: LinkSettings
  readonly where: Where
}

/** Sets up a device and keeps the host's own protocols off it, as far as the host has them. */
export function setSilently(context: WorkerContext, change: SilentChange): void {
  for (const [, answer] of setEachSilently(context, [change])) consented(answer, change.where)
}

/** As {@link setSilently}, of several in one datagram: with what the kernel says of each. */
export function setEachSilently<C extends SilentChange>(
  { route }: WorkerContext,
  changes: readonly C[],
): (readonly [C, NetlinkAnswer])[] {
  const request = (change: C, silent: 'ip' | 'ipv4-only') => {
    const payload = encodeLinkChange(change.index, { ...change.settings, silent })
    return { type: RTM_SETLINK, payload, change, silent }
  }
  const requests = changes.map(change => request(change, mayHaveIpv6(change.settings) ? 'ip' : 'ipv4-only'))
  return route.requestEach(requests).map(([{ change, silent }, answer]) => {
    // A kernel without IPv6 refuses the whole message before it does anything.
    const again = silent === 'ip' && answer.errno === constants.errno.EAFNOSUPPORT
    return [change, again ? route.request(request(change, 'ipv4-only')) : answer]
  })
}

function mayHaveIpv6({ mtuBytes }: LinkSettings): boolean {
  return mtuBytes === undefined || mtuBytes >= minIpv6MtuBytes
}
