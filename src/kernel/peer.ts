import { littleEndian, viewOf } from '../lib/byte-order.js'
import { loadSyscalls } from '../lib/syscall.js'

/** The process at the other end of a unix socket, as it was when it connected (unix(7), SO_PEERCRED). */
export interface Peer {
  readonly pid: number
  readonly uid: number
  readonly gid: number
}

const SOL_SOCKET = 1
const SO_PEERCRED = 17

/** Asks for the peers of connected unix sockets, by descriptor; undefined for what is none. Does not block. */
export function openPeerLookup(): (fd: number) => Peer | undefined {
  const syscalls = loadSyscalls()
  return fd => {
    // struct ucred is { pid_t pid; uid_t uid; gid_t gid }.
    const credentials = new Uint8Array(12)
    if (syscalls.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials) < 0) return undefined
    const view = viewOf(credentials)
    return {
      pid: view.getInt32(0, littleEndian),
      uid: view.getUint32(4, littleEndian),
      gid: view.getUint32(8, littleEndian),
    }
  }
}
