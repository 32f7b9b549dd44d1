import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import koffi from 'koffi'

/** How many descriptors this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

/** How many of them are of tun or tap devices. */
export function tunDescriptors(): number {
  const target = (fd: string) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`)
    } catch {
      // The one that lists them is closed by now.
      return ''
    }
  }
  return readdirSync('/proc/self/fd').filter(fd => target(fd) === '/dev/net/tun').length
}

/** How many packet(7) sockets there are in the namespace of this thread; the first line is a heading. */
export function packetSockets(): number {
  return readFileSync('/proc/thread-self/net/packet', 'utf8').trimEnd().split('\n').length - 1
}

/** <sys/resource.h> */
const RLIMIT_NOFILE = 7

/** Until it is disposed of, this process can open no further descriptor. */
export function withoutDescriptors(): Disposable {
  const libc = koffi.load('libc.so.6')
  const getrlimit = libc.func('int getrlimit(int, void *)')
  const setrlimit = libc.func('int setrlimit(int, const void *)')
  /** `struct rlimit` is { rlim_t rlim_cur; rlim_t rlim_max }. */
  const limit = new BigUint64Array(2)
  getrlimit(RLIMIT_NOFILE, limit)
  const [soft = 0n, hard = 0n] = limit
  setrlimit(RLIMIT_NOFILE, new BigUint64Array([0n, hard]))
  return { [Symbol.dispose]: () => void setrlimit(RLIMIT_NOFILE, new BigUint64Array([soft, hard])) }
}
