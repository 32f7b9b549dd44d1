import { constants } from 'node:os'
import koffi, { type LibraryHandle } from 'koffi'
import { littleEndian, viewOf } from './netlink/attribute.js'

/**
 * The system calls of this room, from the C library, on the calling thread. Most of them can block: they belong in a worker.
 * As inside the kernel, a result below zero is −errno. None throws.
 */
export interface Syscalls {
  socket(family: number, type: number, protocol: number): number
  bind(fd: number, address: Uint8Array): number
  setsockopt(fd: number, level: number, option: number, value: Uint8Array): number
  send(fd: number, datagram: Uint8Array): number
  /** One datagram into `buffer`; with MSG_TRUNC the result is its full length. */
  recv(fd: number, buffer: Uint8Array, flags: number): number
  open(path: string, flags: number): number
  close(fd: number): number
  ioctl(fd: number, request: number, argument: Uint8Array | number): number
  /** Fills a `struct statfs`. */
  fstatfs(fd: number, buffer: Uint8Array): number
  eventfd(initial: number, flags: number): number
  /** Waits until one of the descriptors has input, an error or its end. `ready[i]` belongs to `fds[i]`. */
  poll(fds: readonly number[], timeoutMs: number): { readonly result: number; readonly ready: readonly boolean[] }
}

export const EFD_CLOEXEC = 0o2000000

/** Without an end: for poll(2). */
export const foreverMs = -1

const POLLIN = 0x1

type NativeFunction = ReturnType<LibraryHandle['func']>

export function loadSyscalls(): Syscalls {
  const libc = koffi.load('libc.so.6')
  const socket = libc.func('int socket(int, int, int)')
  const bind = libc.func('int bind(int, const void *, uint32_t)')
  const setsockopt = libc.func('int setsockopt(int, int, int, const void *, uint32_t)')
  const send = libc.func('intptr_t send(int, const void *, size_t, int)')
  const recv = libc.func('intptr_t recv(int, void *, size_t, int)')
  const open = libc.func('int open(const char *, int)')
  const close = libc.func('int close(int)')
  const ioctlPointer = libc.func('int ioctl(int, unsigned long, void *)')
  const ioctlNumber = libc.func('int ioctl(int, unsigned long, intptr_t)')
  const fstatfs = libc.func('int fstatfs(int, void *)')
  const eventfd = libc.func('int eventfd(unsigned int, int)')
  const poll = libc.func('int poll(void *, unsigned long, int)')

  return {
    socket: (family, type, protocol) => call(socket, family, type, protocol),
    bind: (fd, address) => call(bind, fd, address, address.length),
    setsockopt: (fd, level, option, value) => call(setsockopt, fd, level, option, value, value.length),
    send: (fd, datagram) => call(send, fd, datagram, datagram.length, 0),
    recv: (fd, buffer, flags) => call(recv, fd, buffer, buffer.length, flags),
    open: (path, flags) => call(open, path, flags),
    // The descriptor is gone even when close(2) says EINTR.
    close: fd => once(close, fd),
    ioctl: (fd, request, argument) =>
      typeof argument === 'number'
        ? call(ioctlNumber, fd, request, argument)
        : call(ioctlPointer, fd, request, argument),
    fstatfs: (fd, buffer) => call(fstatfs, fd, buffer),
    eventfd: (initial, flags) => call(eventfd, initial, flags),
    poll: (fds, timeoutMs) => pollInput(poll, fds, timeoutMs),
  }
}

/** `struct pollfd` is { int fd; short events; short revents }. */
function pollInput(poll: NativeFunction, fds: readonly number[], timeoutMs: number) {
  const structs = new Uint8Array(fds.length * 8)
  const view = viewOf(structs)
  fds.forEach((fd, i) => {
    view.setInt32(i * 8, fd, littleEndian)
    view.setInt16(i * 8 + 4, POLLIN, littleEndian)
  })
  const result = call(poll, structs, fds.length, timeoutMs)
  return { result, ready: fds.map((_, i) => result > 0 && view.getInt16(i * 8 + 6, littleEndian) !== 0) }
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
