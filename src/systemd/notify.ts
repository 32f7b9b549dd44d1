import koffi from 'koffi'
import { maxSocketPathBytes } from '../lib/socket-address.js'

/** Tells systemd how the service is (sd_notify(3)). Nothing that it does throws or blocks. */
export interface Notifier extends Disposable {
  /** Lines such as `READY=1`, sent as one datagram. */
  notify(...assignments: readonly string[]): void
  /** Milliseconds within which systemd wants to hear `WATCHDOG=1`; undefined: it does not. */
  readonly watchdogMs: number | undefined
}

/** unix(7) and socket(2), as Linux numbers them. */
const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
const MSG_DONTWAIT = 0x40
const MSG_NOSIGNAL = 0x4000

/**
 * The notifier of the variables NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; one that does nothing where there is nobody
 * to tell. Node.js has no datagrams on unix sockets, hence the C library.
 */
export function openNotifier(env: Readonly<Record<string, string | undefined>>, pid: number): Notifier {
  const path = env['NOTIFY_SOCKET'] ?? ''
  if (!/^[/@]./.test(path) || Buffer.byteLength(path) > maxSocketPathBytes) {
    return { notify: () => {}, watchdogMs: undefined, [Symbol.dispose]: () => {} }
  }
  const libc = koffi.load('libc.so.6')
  const socket = libc.func('int socket(int, int, int)')
  const sendto = libc.func('intptr_t sendto(int, const void *, size_t, int, const void *, uint32_t)')
  const close = libc.func('int close(int)')
  const address = socketAddress(path)
  const fd: unknown = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  return {
    notify: (...assignments) => {
      const datagram = Buffer.from(assignments.join('\n'))
      sendto(fd, datagram, datagram.length, MSG_DONTWAIT | MSG_NOSIGNAL, address, address.length)
    },
    watchdogMs: watchdogMs(env, pid),
    [Symbol.dispose]: () => void close(fd),
  }
}

/** `struct sockaddr_un`; a leading @ stands for the NUL of an abstract name, whose length is that of the address. */
function socketAddress(path: string): Uint8Array {
  const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`)
  const family = Buffer.alloc(2)
  new Uint16Array(family.buffer, family.byteOffset, 1)[0] = AF_UNIX
  return Buffer.concat([family, name])
}

function watchdogMs(env: Readonly<Record<string, string | undefined>>, pid: number): number | undefined {
  const usec = Number(env['WATCHDOG_USEC'] ?? '')
  const isForUs = env['WATCHDOG_PID'] === undefined || Number(env['WATCHDOG_PID']) === pid
  return isForUs && Number.isFinite(usec) && usec > 0 ? usec / 1_000 : undefined
}
