import { loadTestSyscalls } from './syscalls.js'

const O_RDWR = 2
const O_NONBLOCK = 0o4000
const O_CLOEXEC = 0o2000000

/** <linux/if_tun.h> */
const TUNSETIFF = 0x400454ca
const IFF_TAP = 0x0002
const IFF_NO_PI = 0x1000

/** A descriptor of a tap device of this thread's namespace, frame by frame; a device that is not there is made. */
export function openTapDevice(name: string): number {
  const syscalls = loadTestSyscalls()
  const fd = syscalls.open('/dev/net/tun', O_RDWR | O_NONBLOCK | O_CLOEXEC)
  const request = Buffer.alloc(40)
  request.write(name)
  request.writeInt16LE(IFF_TAP | IFF_NO_PI, 16)
  try {
    syscalls.ioctl(fd, TUNSETIFF, request)
    return fd
  } catch (error) {
    syscalls.close(fd)
    throw error
  }
}
