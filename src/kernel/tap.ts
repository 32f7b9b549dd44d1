import { constants } from 'node:os'
import { littleEndian, viewOf } from '../lib/byte-order.js'
import { discard } from './deletion.js'
import { KernelError, type Where } from './errors.js'
import type { Device, TapSpec } from './link.js'
import { encodeLinkChange, encodeLinkQuery, RTM_GETLINK, RTM_SETLINK } from './netlink/link-message.js'
import type { NetlinkAnswer } from './netlink/socket.js'
import {
  type Attempt,
  consented,
  forSwitch,
  refusalOf,
  refused,
  setEachSilently,
  throwIfAborted,
  type WorkerContext,
} from './worker-context.js'

const tunPath = '/dev/net/tun'

// <linux/if_tun.h>
const TUNSETIFF = 0x400454ca
const TUNSETPERSIST = 0x400454cb
const TUNSETOWNER = 0x400454cc
const IFF_TAP = 0x0002
const IFF_MULTI_QUEUE = 0x0100
const IFF_NO_PI = 0x1000
/** Refuse (EBUSY) to attach to a device that is there. */
const IFF_TUN_EXCL = 0x8000

const O_RDWR = 0o2
const O_CLOEXEC = 0o2000000
const ifreqBytes = 40
const ifrFlagsOffset = 16

/** How many are made side by side. What is asked of them in one datagram has to find room for its answers. */
const groupSize = 16

/** The taps that one call wants. */
interface Order {
  readonly specs: readonly TapSpec[]
  readonly stage: Int32Array
}

interface Making extends Order {
  readonly made: Device[]
  /** Why it is given up. */
  failure?: { readonly ok: false; readonly error: unknown }
}

/** A device that is wanted. */
interface Wanted {
  readonly of: Making
  readonly spec: TapSpec
  readonly where: Where
}

/** A device that is being made. */
interface Newborn extends Wanted {
  /** Of /dev/net/tun. */
  readonly fd: number
  readonly index: number
}

/** Of each order it makes all or none, and one that fails holds up no other. */
export function createTaps<O extends Order>(
  context: WorkerContext,
  orders: readonly O[],
): (readonly [O, Attempt<Device[]>])[] {
  const makings = orders.map((order): Making & { readonly order: O } => ({ ...order, order, made: [] }))
  const wanted = makings.flatMap(making => wantedOf(making))
  for (let first = 0; first < wanted.length; first += groupSize) {
    makeGroup(context, wanted.slice(first, first + groupSize))
  }
  discard(
    context,
    makings.flatMap(making => (making.failure === undefined ? [] : making.made)),
  )
  return makings.map(({ order, made, failure }) => [order, failure ?? { ok: true, value: made }])
}

function wantedOf(making: Making): Wanted[] {
  return making.specs.map((spec, specIndex) => {
    return { of: making, spec, where: { operation: 'createTaps', device: spec.name, specIndex } }
  })
}

function isWanted({ of }: Wanted): boolean {
  return of.failure === undefined
}

/** A refusal makes its order fail. */
function heed(answers: readonly (readonly [Wanted, NetlinkAnswer])[]): void {
  for (const [one, answer] of answers) withEach([one], ({ where }) => void consented(answer, where))
}

/** Takes a step with each whose order has not failed; what it throws makes its order fail. */
function withEach<T extends Wanted>(all: readonly T[], step: (one: T) => void): void {
  for (const one of all) {
    if (!isWanted(one)) continue
    try {
      step(one)
    } catch (error) {
      one.of.failure = { ok: false, error }
    }
  }
}

function makeGroup(context: WorkerContext, group: readonly Wanted[]): void {
  try {
    bringUp(context, persist(context, group))
  } catch (error) {
    for (const { of } of group) of.failure ??= { ok: false, error }
  }
}

/**
 * A device lives only as long as its descriptor until TUNSETPERSIST, when it is put among those `made`; by then it carries its
 * alias, so that no crash leaves one without.
 */
function persist(context: WorkerContext, wanted: readonly Wanted[]): readonly Newborn[] {
  const group: Newborn[] = []
  try {
    withEach(wanted, one => {
      throwIfAborted(one.of.stage, one.where)
      group.push({ ...one, ...attach(context, one) })
    })
    const changes = group.filter(isWanted).map(newborn => {
      const { alias, mtuBytes } = newborn.spec
      return { ...newborn, settings: { alias, ...(mtuBytes !== undefined && { mtuBytes }) } }
    })
    heed(setEachSilently(context, changes))
    withEach(group, ({ of, spec, where, fd, index }) => {
      ioctl(context, fd, TUNSETPERSIST, 1, where)
      of.made.push({ name: spec.name, index })
    })
  } finally {
    for (const { fd } of group) context.syscalls.close(fd)
  }
  return group
}

/**
 * While a device is down nobody is told of what is set: two link events, its birth and its going up, and one more for an MTU.
 * Closing the descriptor took the carrier away, which the kernel takes its time to notice (linkwatch), and tells of when the
 * device is up by then. Since Linux 6.8 it notices when it is asked for the device: so it is asked before.
 */
function bringUp({ route }: WorkerContext, group: readonly Newborn[]): void {
  const requests = group.filter(isWanted).flatMap(newborn => [
    { ...newborn, type: RTM_GETLINK, payload: encodeLinkQuery(newborn.index, undefined) },
    { ...newborn, type: RTM_SETLINK, payload: encodeLinkChange(newborn.index, forSwitch) },
  ])
  heed(route.requestEach(requests))
}

function attach(context: WorkerContext, { spec, where }: Wanted): Pick<Newborn, 'fd' | 'index'> {
  const { syscalls } = context
  const fd = syscalls.open(tunPath, O_RDWR | O_CLOEXEC)
  if (fd < 0) throw tunError(-fd, where)
  try {
    const flags = IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL | (spec.multiQueue ? IFF_MULTI_QUEUE : 0)
    const result = syscalls.ioctl(fd, TUNSETIFF, ifreq(spec.name, flags))
    if (result === -constants.errno.EBUSY)
      throw new KernelError({ ...where, kind: 'exists', refusal: refusalOf(-result, '') })
    if (result < 0) throw refused(-result, 'TUNSETIFF', where)
    if (spec.ownerUid !== undefined) ioctl(context, fd, TUNSETOWNER, spec.ownerUid, where)
    const index = syscalls.if_nametoindex(spec.name)
    if (index < 0) throw refused(-index, 'if_nametoindex', where)
    return { fd, index }
  } catch (error) {
    syscalls.close(fd)
    throw error
  }
}

function ioctl({ syscalls }: WorkerContext, fd: number, request: number, argument: number, where: Where): void {
  const result = syscalls.ioctl(fd, request, argument)
  if (result < 0) throw refused(-result, request === TUNSETOWNER ? 'TUNSETOWNER' : 'TUNSETPERSIST', where)
}

function tunError(errno: number, where: Where): KernelError {
  switch (errno) {
    case constants.errno.ENOENT:
    case constants.errno.ENODEV:
    case constants.errno.ENXIO:
      return new KernelError({ ...where, kind: 'no-tun', refusal: refusalOf(errno, '') })
    default:
      return refused(errno, tunPath, where)
  }
}

/** Whether /dev/net/tun opens; opening makes no device. */
export function hasTunDevice({ syscalls }: WorkerContext): boolean {
  const fd = syscalls.open(tunPath, O_RDWR | O_CLOEXEC)
  if (fd >= 0) syscalls.close(fd)
  return fd >= 0
}

/** `struct ifreq` (netdevice(7)): the name, then the flags. */
function ifreq(name: string, flags: number): Uint8Array {
  const out = new Uint8Array(ifreqBytes)
  out.set(Buffer.from(name))
  viewOf(out).setUint16(ifrFlagsOffset, flags, littleEndian)
  return out
}
