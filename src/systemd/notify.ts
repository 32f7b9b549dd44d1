import { maxSocketPathBytes } from '../lib/socket-address.js'
import { AF_UNIX, loadSyscalls, MSG_DONTWAIT, unixAddress } from '../lib/syscall.js'

/** Tells systemd how the service is (sd_notify(3)). Nothing that it does throws or blocks. */
export interface Notifier extends Disposable {
  /** Lines such as `READY=1`, sent as one datagram. */
  notify(...assignments: readonly string[]): void
  /** Milliseconds within which systemd wants to hear `WATCHDOG=1`; undefined: it does not. */
  readonly watchdogMs: number | undefined
}

/** unix(7) and socket(2), as Linux numbers them. */
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000
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
  const syscalls = loadSyscalls()
  const address = unixAddress(path)
  const fd = syscalls.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  return {
    notify: (...assignments) => {
      syscalls.sendTo(fd, Buffer.from(assignments.join('\n')), MSG_DONTWAIT | MSG_NOSIGNAL, address)
    },
    watchdogMs: watchdogMs(env, pid),
    [Symbol.dispose]: () => void syscalls.close(fd),
  }
}

function watchdogMs(env: Readonly<Record<string, string | undefined>>, pid: number): number | undefined {
  const usec = Number(env['WATCHDOG_USEC'] ?? '')
  const isForUs = env['WATCHDOG_PID'] === undefined || Number(env['WATCHDOG_PID']) === pid
  return isForUs && Number.isFinite(usec) && usec > 0 ? usec / 1_000 : undefined
}
