import { constants } from 'node:os'
import { littleEndian, viewOf } from '../lib/byte-order.js'
import { removeLinks } from './deletion.js'
import { KernelError, type Where } from './errors.js'
import type { Device, TapSpec } from './link.js'
import { encodeLinkChange, encodeLinkQuery, RTM_GETLINK, RTM_SETLINK } from './netlink/link-message.js'
import {
  consented,
  forSwitch,
  type Outcome,
  refusalOf,
  refused,
  setSilently,
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

/** A device that is being made. */
interface Newborn {
  readonly spec: TapSpec
  readonly where: Where
  /** Of /dev/net/tun. */
  readonly fd: number
  readonly index: number
}

/** Makes all of them or none. */
export function createTaps(context: WorkerContext, specs: readonly TapSpec[], stage: Int32Array): Outcome<Device[]> {
  const made: Device[] = []
  const undo = () => {
    removeLinks(context, made)
  }
  try {
    for (let first = 0; first < specs.length; first += groupSize) {
      const group = persist(context, specs.slice(first, first + groupSize), first, stage, made)
      bringUp(context, group)
    }
  } catch (error) {
    undo()
    throw error
  }
  return { value: made, undo }
}

/**
 * A device lives only as long as its descriptor until TUNSETPERSIST, when it is put among those `made`; by then it carries its
 * alias, so that no crash leaves one without.
 */
function persist(
  context: WorkerContext,
  specs: readonly TapSpec[],
  firstIndex: number,
  stage: Int32Array,
  made: Device[],
): Newborn[] {
  const group: Newborn[] = []
  try {
    for (const [i, spec] of specs.entries()) {
      const where = { operation: 'createTaps', device: spec.name, specIndex: firstIndex + i }
      throwIfAborted(stage, where)
      group.push(attach(context, spec, where))
    }
    setSilently(
      context,
      group.map(({ spec: { alias, mtuBytes }, where, index }) => {
        return { index, settings: { alias, ...(mtuBytes !== undefined && { mtuBytes }) }, where }
      }),
    )
    for (const { spec, where, fd, index } of group) {
      ioctl(context, fd, TUNSETPERSIST, 1, where)
      made.push({ name: spec.name, index })
    }
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
  const requests = group.flatMap(({ where, index }) => [
    { where, type: RTM_GETLINK, payload: encodeLinkQuery(index, undefined) },
    { where, type: RTM_SETLINK, payload: encodeLinkChange(index, forSwitch) },
  ])
  for (const [{ where }, answer] of route.requestEach(requests)) consented(answer, where)
}

function attach(context: WorkerContext, spec: TapSpec, where: Where): Newborn {
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
    return { spec, where, fd, index }
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
