import { getSystemErrorName } from 'node:util'
import koffi, { type LibraryHandle } from 'koffi'

/** A system call that failed: `unshare: EPERM`. */
export class SyscallError extends Error {
  override readonly name = 'SyscallError'

  constructor(
    readonly call: string,
    readonly code: string,
    detail: string,
  ) {
    super(`${call}: ${code}${detail === '' ? '' : ` (${detail})`}`)
  }
}

/** The system calls of the tests beyond those of src/kernel, on the calling thread; each throws a SyscallError. */
export interface TestSyscalls {
  unshare(flags: number): void
  setns(fd: number, type: number): void
  bindMount(source: string, target: string): void
  mountTmpfs(target: string, options: string): void
  unmount(target: string): void
  open(path: string, flags: number): number
  close(fd: number): void
  socket(family: number, type: number, protocol: number): number
  bind(fd: number, address: Uint8Array): void
  setsockopt(fd: number, level: number, option: number, value: Uint8Array): void
  ioctl(fd: number, request: number, argument: Uint8Array): void
  send(fd: number, frame: Uint8Array): void
  sendto(fd: number, datagram: Uint8Array, address: Uint8Array): void
  /** Bytes read, or undefined when there is nothing to read now. */
  read(fd: number, buffer: Uint8Array): number | undefined
  write(fd: number, frame: Uint8Array): void
  /** One datagram with its control messages, or undefined when there is none now (recvmsg(2)). */
  receive(fd: number, buffer: Uint8Array, control: Uint8Array): ReceivedBytes | undefined
}

export interface ReceivedBytes {
  readonly length: number
  /** The sender's address, such as `struct sockaddr_ll`. */
  readonly address: Buffer
  readonly controlLength: number
}

const MS_BIND = 4096
const MNT_DETACH = 2

type NativeFunction = ReturnType<LibraryHandle['func']>

/** Binds them; koffi gives back the library that is loaded already. */
export function loadTestSyscalls(): TestSyscalls {
  const libc = koffi.load('libc.so.6')
  const unshare = libc.func('int unshare(int)')
  const setns = libc.func('int setns(int, int)')
  const mount = libc.func('int mount(const char *, const char *, const char *, unsigned long, const void *)')
  const umount2 = libc.func('int umount2(const char *, int)')
  const open = libc.func('int open(const char *, int)')
  const close = libc.func('int close(int)')
  const socket = libc.func('int socket(int, int, int)')
  const bind = libc.func('int bind(int, const void *, uint32_t)')
  const setsockopt = libc.func('int setsockopt(int, int, int, const void *, uint32_t)')
  const ioctl = libc.func('int ioctl(int, unsigned long, void *)')
  const send = libc.func('intptr_t send(int, const void *, size_t, int)')
  const sendto = libc.func('intptr_t sendto(int, const void *, size_t, int, const void *, uint32_t)')
  const read = libc.func('intptr_t read(int, void *, size_t)')
  const write = libc.func('intptr_t write(int, const void *, size_t)')
  const recvmsg = libc.func('intptr_t recvmsg(int, void *, int)')
  return {
    unshare: flags => void must('unshare', '', unshare, flags),
    setns: (fd, type) => void must('setns', '', setns, fd, type),
    bindMount: (source, target) => void must('mount', target, mount, source, target, 'none', MS_BIND, null),
    mountTmpfs: (target, options) => void must('mount', target, mount, 'tmpfs', target, 'tmpfs', 0, options),
    unmount: target => void must('umount2', target, umount2, target, MNT_DETACH),
    open: (path, flags) => must('open', path, open, path, flags),
    close: fd => void must('close', '', close, fd),
    socket: (family, type, protocol) => must('socket', '', socket, family, type, protocol),
    bind: (fd, address) => void must('bind', '', bind, fd, address, address.length),
    setsockopt: (fd, level, option, value) =>
      void must('setsockopt', `${level} ${option}`, setsockopt, fd, level, option, value, value.length),
    ioctl: (fd, request, argument) => void must('ioctl', `0x${request.toString(16)}`, ioctl, fd, request, argument),
    send: (fd, frame) => void must('send', '', send, fd, frame, frame.length, 0),
    sendto: (fd, datagram, address) =>
      void must('sendto', '', sendto, fd, datagram, datagram.length, 0, address, address.length),
    read: (fd, buffer) => unlessEmpty('read', read, fd, buffer, buffer.length),
    write: (fd, frame) => void must('write', '', write, fd, frame, frame.length),
    receive: (fd, buffer, control) => receive(recvmsg, fd, buffer, control),
  }
}

function must(name: string, detail: string, native: NativeFunction, ...args: readonly unknown[]): number {
  const { result, code } = call(native, args)
  if (result < 0) throw new SyscallError(name, code, detail)
  return result
}

function unlessEmpty(name: string, native: NativeFunction, ...args: readonly unknown[]): number | undefined {
  const { result, code } = call(native, args)
  if (result >= 0) return result
  if (code === 'EAGAIN') return undefined
  throw new SyscallError(name, code, '')
}

/** Node's signal handlers interrupt any thread: a call that was only interrupted is made again. */
function call(native: NativeFunction, args: readonly unknown[]): { readonly result: number; readonly code: string } {
  for (;;) {
    const result = Number(native(...args))
    const code = result < 0 ? getSystemErrorName(-koffi.errno()) : ''
    if (code !== 'EINTR') return { result, code }
  }
}

/** `struct iovec` and `struct msghdr` of recvmsg(2), 64 bits. */
function receive(
  recvmsg: NativeFunction,
  fd: number,
  buffer: Uint8Array,
  control: Uint8Array,
): ReceivedBytes | undefined {
  // One block, so that nothing the call points to can be collected before it.
  const block = Buffer.alloc(56 + 16 + 128)
  const header = block.subarray(0, 56)
  const iovec = block.subarray(56, 72)
  const address = block.subarray(72)
  const blockAt = koffi.address(block)
  iovec.writeBigUInt64LE(koffi.address(buffer), 0)
  iovec.writeBigUInt64LE(BigInt(buffer.length), 8)
  header.writeBigUInt64LE(blockAt + 72n, 0)
  header.writeUInt32LE(address.length, 8)
  header.writeBigUInt64LE(blockAt + 56n, 16)
  header.writeBigUInt64LE(1n, 24)
  header.writeBigUInt64LE(koffi.address(control), 32)
  header.writeBigUInt64LE(BigInt(control.length), 40)
  const length = unlessEmpty('recvmsg', recvmsg, fd, header, 0)
  if (length === undefined) return undefined
  return { length, address, controlLength: Number(header.readBigUInt64LE(40)) }
}
