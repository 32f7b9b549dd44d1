import { constants } from 'node:os'
import { AF_UNIX, loadSyscalls, unixAddress } from '../lib/syscall.js'
import { refused } from './worker-context.js'

const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000

/**
 * Takes a name that one process may have at a time in the network namespace of this thread, as long as it lives: that of an
 * abstract socket, which no file outlives (unix(7)). undefined: another has it. Does not block.
 */
export function claimName(name: string): Disposable | undefined {
  const syscalls = loadSyscalls()
  const fd = syscalls.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  const errno = fd < 0 ? -fd : -syscalls.bind(fd, unixAddress(`@${name}`))
  if (errno === 0) return { [Symbol.dispose]: () => void syscalls.close(fd) }
  if (fd >= 0) syscalls.close(fd)
  if (errno === constants.errno.EADDRINUSE) return undefined
  throw refused(errno, name, { operation: 'claimName' })
}
