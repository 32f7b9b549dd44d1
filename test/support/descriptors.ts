import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import koffi from 'koffi'

/** How many descriptors this process has open. */
export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length
}

/**
 * How many packet(7) sockets of this process there are in the namespace of this thread. ovs-vswitchd has others there,
 * which it opens and closes when it likes.
 */
export function packetSockets(): number {
  const [, ...lines] = readFileSync('/proc/thread-self/net/packet', 'utf8').trimEnd().split('\n')
  const own = new Set(readdirSync('/proc/self/fd').map(targetOf))
  return lines.filter(line => own.has(`socket:[${line.trim().split(/\s+/).at(-1)}]`)).length
}

/** What a descriptor is of; undefined: it has been closed meanwhile. */
function targetOf(fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`)
  } catch {
    return undefined
  }
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
