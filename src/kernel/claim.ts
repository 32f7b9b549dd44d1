import { constants } from 'node:os'
import { littleEndian, viewOf } from '../lib/byte-order.js'
import { loadSyscalls } from '../lib/syscall.js'
import { refused } from './worker-context.js'

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000

/**
 * Takes a name that one process may have at a time in the network namespace of this thread, as long as it lives: that of an
 * abstract socket, which no file outlives (unix(7)). undefined: another has it. Does not block.
 */
export function claimName(name: string): Disposable | undefined {
  const syscalls = loadSyscalls()
  const fd = syscalls.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  const errno = fd < 0 ? -fd : -syscalls.bind(fd, abstractAddress(name))
  if (errno === 0) return { [Symbol.dispose]: () => void syscalls.close(fd) }
  if (fd >= 0) syscalls.close(fd)
  if (errno === constants.errno.EADDRINUSE) return undefined
  throw refused(errno, name, { operation: 'claimName' })
}

/** `struct sockaddr_un`: the family, a zero byte, and the name up to the end. */
function abstractAddress(name: string): Uint8Array {
  const address = Buffer.concat([new Uint8Array(3), Buffer.from(name)])
  viewOf(address).setUint16(0, AF_UNIX, littleEndian)
  return address
}
