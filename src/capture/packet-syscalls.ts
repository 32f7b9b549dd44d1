import { constants } from 'node:os'
import koffi, { type LibraryHandle } from 'koffi'

/** The system calls of packet sockets, on the calling thread. As inside the kernel, a result below zero is −errno. */
export interface PacketSyscalls {
  socket(family: number, type: number, protocol: number): number
  bind(fd: number, address: Uint8Array): number
  setsockopt(fd: number, level: number, option: number, value: Uint8Array): number
  /** Fills `value`, whose length the kernel knows. */
  getsockopt(fd: number, level: number, option: number, value: Uint8Array): number
  /** Fills the first of `count` `struct mmsghdr` as far as there are messages; never waits. */
  recvmmsg(fd: number, headers: Uint8Array, count: number): number
  ioctl(fd: number, request: number, argument: Uint8Array): number
  eventfd(): number
  /** Takes an eventfd's count, so that it is not ready any more. */
  drain(fd: number): void
  /** Which of the descriptors have input, an error or their end; waits `timeoutMs` for it, −1: for ever. */
  poll(fds: readonly number[], timeoutMs: number): readonly boolean[]
  close(fd: number): void
  /** Where a buffer is; it stays there as long as it is referred to, if it is not from a pool. */
  addressOf(buffer: Uint8Array): bigint
}

const MSG_DONTWAIT = 0x40
const EFD_CLOEXEC = 0o2000000
const EFD_NONBLOCK = 0o4000
const POLLIN = 0x1

type NativeFunction = ReturnType<LibraryHandle['func']>

export function loadPacketSyscalls(): PacketSyscalls {
  const libc = koffi.load('libc.so.6')
  const socket = libc.func('int socket(int, int, int)')
  const bind = libc.func('int bind(int, const void *, uint32_t)')
  const setsockopt = libc.func('int setsockopt(int, int, int, const void *, uint32_t)')
  const getsockopt = libc.func('int getsockopt(int, int, int, void *, void *)')
  const recvmmsg = libc.func('int recvmmsg(int, void *, unsigned int, int, void *)')
  const ioctl = libc.func('int ioctl(int, unsigned long, void *)')
  const eventfd = libc.func('int eventfd(unsigned int, int)')
  const read = libc.func('intptr_t read(int, void *, size_t)')
  const poll = libc.func('int poll(void *, unsigned long, int)')
  const close = libc.func('int close(int)')
  return {
    socket: (family, type, protocol) => call(socket, family, type, protocol),
    bind: (fd, address) => call(bind, fd, address, address.length),
    setsockopt: (fd, level, option, value) => call(setsockopt, fd, level, option, value, value.length),
    getsockopt: (fd, level, option, value) =>
      call(getsockopt, fd, level, option, value, new Uint32Array([value.length])),
    recvmmsg: (fd, headers, count) => call(recvmmsg, fd, headers, count, MSG_DONTWAIT, null),
    ioctl: (fd, request, argument) => call(ioctl, fd, request, argument),
    eventfd: () => call(eventfd, 0, EFD_CLOEXEC | EFD_NONBLOCK),
    drain: fd => void call(read, fd, new Uint8Array(8), 8),
    poll: (fds, timeoutMs) => pollInput(poll, fds, timeoutMs),
    // The descriptor is gone even when close(2) says EINTR.
    close: fd => void once(close, fd),
    addressOf: buffer => koffi.address(buffer),
  }
}

/** `struct pollfd` is { int fd; short events; short revents }. */
function pollInput(poll: NativeFunction, fds: readonly number[], timeoutMs: number): readonly boolean[] {
  const words = new Int32Array(fds.length * 2)
  const halves = new Int16Array(words.buffer)
  for (const [index, fd] of fds.entries()) {
    words[index * 2] = fd
    halves[index * 4 + 2] = POLLIN
  }
  const result = call(poll, words, fds.length, timeoutMs)
  return fds.map((_, index) => result > 0 && halves[index * 4 + 3] !== 0)
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
