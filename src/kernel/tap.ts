import { constants } from 'node:os'
import { littleEndian, viewOf } from '../lib/byte-order.js'
import { removeLinks } from './deletion.js'
import { KernelError, type Where } from './errors.js'
import type { Link, TapSpec } from './link.js'
import { encodeLinkChange, RTM_SETLINK } from './netlink/link-message.js'
import {
  consented,
  forSwitch,
  type Outcome,
  readLink,
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

/** Makes all of them or none. */
export function createTaps(context: WorkerContext, specs: readonly TapSpec[], stage: Int32Array): Outcome<Link[]> {
  const made: Link[] = []
  const undo = () => {
    removeLinks(context, made)
  }
  try {
    specs.forEach((spec, specIndex) => {
      const where = { operation: 'createTaps', device: spec.name, specIndex }
      throwIfAborted(stage, where)
      made.push(createTap(context, spec, where))
    })
  } catch (error) {
    undo()
    throw error
  }
  return { value: made, undo }
}

/**
 * The device lives only as long as its descriptor until TUNSETPERSIST; by then it carries its alias, so that no crash
 * leaves one without. While it is down nobody is told of what is set: two link events, its birth and its going up, and one
 * more for an MTU. Closing the descriptor takes the carrier away, which the kernel takes its time to notice (linkwatch), and
 * tells of when the device is up by then. Since Linux 6.8 it notices when it is asked for the device: so it is asked before.
 */
function createTap(context: WorkerContext, spec: TapSpec, where: Where): Link {
  const { syscalls, route } = context
  const index = withTunDevice(context, where, fd => {
    attach(context, fd, spec, where)
    const born = syscalls.if_nametoindex(spec.name)
    if (born < 0) throw refused(-born, 'if_nametoindex', where)
    const { alias, mtuBytes } = spec
    setSilently(context, born, { alias, ...(mtuBytes !== undefined && { mtuBytes }) }, where)
    ioctl(context, fd, TUNSETPERSIST, 1, where)
    return born
  })
  try {
    const link = readLink(context, index, where)
    consented(route.request({ type: RTM_SETLINK, payload: encodeLinkChange(index, forSwitch) }), where)
    return { ...link, ...forSwitch }
  } catch (error) {
    removeLinks({ syscalls, route }, [{ name: spec.name, index }])
    throw error
  }
}

function attach(context: WorkerContext, fd: number, spec: TapSpec, where: Where): void {
  const flags = IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL | (spec.multiQueue ? IFF_MULTI_QUEUE : 0)
  const result = context.syscalls.ioctl(fd, TUNSETIFF, ifreq(spec.name, flags))
  if (result === -constants.errno.EBUSY)
    throw new KernelError({ ...where, kind: 'exists', refusal: refusalOf(-result, '') })
  if (result < 0) throw refused(-result, 'TUNSETIFF', where)
  if (spec.ownerUid !== undefined) ioctl(context, fd, TUNSETOWNER, spec.ownerUid, where)
}

function ioctl({ syscalls }: WorkerContext, fd: number, request: number, argument: number, where: Where): void {
  const result = syscalls.ioctl(fd, request, argument)
  if (result < 0) throw refused(-result, request === TUNSETOWNER ? 'TUNSETOWNER' : 'TUNSETPERSIST', where)
}

function withTunDevice<T>({ syscalls }: WorkerContext, where: Where, use: (fd: number) => T): T {
  const fd = syscalls.open(tunPath, O_RDWR | O_CLOEXEC)
  if (fd < 0) throw tunError(-fd, where)
  try {
    return use(fd)
  } finally {
    syscalls.close(fd)
  }
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
