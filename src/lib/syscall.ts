import { constants } from 'node:os'
import koffi, { type LibraryHandle } from 'koffi'
import { littleEndian, viewOf } from './byte-order.js'
import { PollSet } from './poll-set.js'

/**
 * System calls that Node.js does not offer, from the C library, on the calling thread. Most of them can block: they belong in
 * a worker. As inside the kernel, a result below zero is −errno. None throws.
 */
export interface Syscalls {
  socket(family: number, type: number, protocol: number): number
  bind(fd: number, address: Uint8Array): number
  setsockopt(fd: number, level: number, option: number, value: Uint8Array): number
  /** Fills `value`, whose length the kernel knows. */
  getsockopt(fd: number, level: number, option: number, value: Uint8Array): number
  send(fd: number, datagram: Uint8Array): number
  sendTo(fd: number, datagram: Uint8Array, flags: number, address: Uint8Array): number
  /** One datagram into `buffer`; with MSG_TRUNC the result is its full length. */
  recv(fd: number, buffer: Uint8Array, flags: number): number
  /** Fills the first of `count` `struct mmsghdr` as far as there are messages; never waits. */
  recvmmsg(fd: number, headers: Uint8Array, count: number): number
  open(path: string, flags: number): number
  close(fd: number): number
  ioctl(fd: number, request: number, argument: Uint8Array | number): number
  /** Fills a `struct statfs`. */
  fstatfs(fd: number, buffer: Uint8Array): number
  eventfd(initial: number, flags: number): number
  /** The index of a network device. It does not wait for those who change others, as a request over netlink does. */
  if_nametoindex(name: string): number
  /** For poll(2). */
  newPollSet(): PollSet
}

export const EFD_CLOEXEC = 0o2000000
export const MSG_DONTWAIT = 0x40
export const AF_UNIX = 1

type NativeFunction = ReturnType<LibraryHandle['func']>

export function loadSyscalls(): Syscalls {
  const libc = koffi.load('libc.so.6')
  const socket = libc.func('int socket(int, int, int)')
  const bind = libc.func('int bind(int, const void *, uint32_t)')
  const setsockopt = libc.func('int setsockopt(int, int, int, const void *, uint32_t)')
  const getsockopt = libc.func('int getsockopt(int, int, int, void *, void *)')
  const send = libc.func('intptr_t send(int, const void *, size_t, int)')
  const sendto = libc.func('intptr_t sendto(int, const void *, size_t, int, const void *, uint32_t)')
  const recv = libc.func('intptr_t recv(int, void *, size_t, int)')
  const recvmmsg = libc.func('int recvmmsg(int, void *, unsigned int, int, void *)')
  const open = libc.func('int open(const char *, int)')
  const close = libc.func('int close(int)')
  const ioctlPointer = libc.func('int ioctl(int, unsigned long, void *)')
  const ioctlNumber = libc.func('int ioctl(int, unsigned long, intptr_t)')
  const fstatfs = libc.func('int fstatfs(int, void *)')
  const eventfd = libc.func('int eventfd(unsigned int, int)')
  const ifNametoindex = libc.func('int if_nametoindex(const char *)')
  const poll = libc.func('int poll(void *, unsigned long, int)')

  return {
    socket: (family, type, protocol) => call(socket, family, type, protocol),
    bind: (fd, address) => call(bind, fd, address, address.length),
    setsockopt: (fd, level, option, value) => call(setsockopt, fd, level, option, value, value.length),
    getsockopt: (fd, level, option, value) =>
      call(getsockopt, fd, level, option, value, new Uint32Array([value.length])),
    send: (fd, datagram) => call(send, fd, datagram, datagram.length, 0),
    sendTo: (fd, datagram, flags, address) =>
      call(sendto, fd, datagram, datagram.length, flags, address, address.length),
    recv: (fd, buffer, flags) => call(recv, fd, buffer, buffer.length, flags),
    recvmmsg: (fd, headers, count) => call(recvmmsg, fd, headers, count, MSG_DONTWAIT, null),
    open: (path, flags) => call(open, path, flags),
    // The descriptor is gone even when close(2) says EINTR.
    close: fd => once(close, fd),
    ioctl: (fd, request, argument) =>
      typeof argument === 'number'
        ? call(ioctlNumber, fd, request, argument)
        : call(ioctlPointer, fd, request, argument),
    fstatfs: (fd, buffer) => call(fstatfs, fd, buffer),
    eventfd: (initial, flags) => call(eventfd, initial, flags),
    if_nametoindex: name => once(ifNametoindex, name) || -koffi.errno(),
    newPollSet: () => new PollSet((structs, count, timeoutMs) => call(poll, structs, count, timeoutMs)),
  }
}

/** Where a buffer is; it stays there as long as it is referred to, if it is not from a pool. */
export function addressOf(buffer: Uint8Array): bigint {
  return koffi.address(buffer)
}

/** `struct sockaddr_un`; a leading @ stands for the NUL of an abstract name, whose length is that of the address (unix(7)). */
export function unixAddress(path: string): Uint8Array {
  const name = path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`
  const address = Buffer.concat([new Uint8Array(2), Buffer.from(name)])
  viewOf(address).setUint16(0, AF_UNIX, littleEndian)
  return address
}

/** Name of a positive errno, `ENOSPC`. */
export function errnoName(errno: number): string {
  // Not among Node's constants.
  if (errno === 95) return 'EOPNOTSUPP'
  const found = Object.entries(constants.errno).find(([, value]) => value === errno)
  return found?.[0] ?? `errno ${errno}`
}

/** Node's signal handlers interrupt any thread: a call that was only interrupted is made again. */
function call(native: NativeFunction, ...args: readonly unknown[]): number {
  for (;;) {
    const result = once(native, ...args)
    if (result !== -constants.errno.EINTR) return result
  }
}

/** errno belongs to the thread and lasts until its next call: nothing may come between. */
function once(native: NativeFunction, ...args: readonly unknown[]): number {
  const result: unknown = native(...args)
  if (typeof result !== 'number') throw new TypeError(`a system call returned ${typeof result}`)
  return result < 0 ? -koffi.errno() : result
}
