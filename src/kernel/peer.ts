import koffi from 'koffi'
import { littleEndian, viewOf } from './netlink/attribute.js'

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
  const getsockopt = koffi.load('libc.so.6').func('int getsockopt(int, int, int, void *, void *)')
  return fd => {
    // struct ucred is { pid_t pid; uid_t uid; gid_t gid }.
    const credentials = new Uint8Array(12)
    const length = new Uint8Array(4)
    viewOf(length).setUint32(0, credentials.length, littleEndian)
    const result: unknown = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, length)
    if (result !== 0) return undefined
    const view = viewOf(credentials)
    return {
      pid: view.getInt32(0, littleEndian),
      uid: view.getUint32(4, littleEndian),
      gid: view.getUint32(8, littleEndian),
    }
  }
}
