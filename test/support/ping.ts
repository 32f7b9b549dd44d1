import { isIPv6 } from 'node:net'
import { addressBytes } from './address.js'
import type { Namespace } from './namespace.js'
import { watchReadable } from './readable.js'
import { loadTestSyscalls, type TestSyscalls } from './syscalls.js'
import { patienceMs, until } from './until.js'

/** Sends ICMP echo requests from one namespace with that namespace's own IP stack. */
export interface Pinger extends Disposable {
  /** Sends one request; resolves to its round trip in ms, or undefined when no answer came within `waitMs`. */
  once(address: string, waitMs: number): Promise<number | undefined>
}

/** Pings every 200 ms until an answer comes, and gives its round trip in ms; rejects after `deadlineMs`. */
export async function ping(
  from: Pick<Namespace, 'run' | 'name'>,
  address: string,
  options: { readonly deadlineMs?: number } = {},
): Promise<number> {
  const { deadlineMs = patienceMs } = options
  using pinger = openPinger(from, address)
  const deadline = performance.now() + deadlineMs
  while (performance.now() < deadline) {
    const roundTripMs = await pinger.once(address, 200)
    if (roundTripMs !== undefined) return roundTripMs
  }
  throw new Error(`not within ${deadlineMs} ms: an answer from ${address} to a ping from ${from.name}`)
}

/**
 * Rejects when one of three pings is answered within `windowMs` (300 ms) altogether: for what was never connected. What was
 * until now may be for a moment more, see {@link pingsCease}.
 */
export async function expectNoPing(
  from: Pick<Namespace, 'run' | 'name'>,
  address: string,
  options: { readonly windowMs?: number } = {},
): Promise<void> {
  const { windowMs = 300 } = options
  using pinger = openPinger(from, address)
  for (let probe = 0; probe < 3; probe++) {
    const roundTripMs = await pinger.once(address, windowMs / 3)
    if (roundTripMs !== undefined) throw new Error(`${address} answered a ping from ${from.name}, and should not have`)
  }
}

/**
 * Resolves when three pings in a row stay unanswered. A change is in the switch when its call returns, but the datapath goes
 * on for a moment with the flows that it had, until ovs-vswitchd has revalidated them.
 */
export async function pingsCease(from: Pick<Namespace, 'run' | 'name'>, address: string): Promise<void> {
  await until(`no answer from ${address} to pings from ${from.name}`, async () => {
    await expectNoPing(from, address)
    return true
  })
}

const AF_INET = 2
const AF_INET6 = 10
const SOCK_RAW = 3
const O_NONBLOCK = 0o4000
const O_CLOEXEC = 0o2000000
const IPPROTO_ICMP = 1
const IPPROTO_ICMPV6 = 58

/** RFC 792 and RFC 4443 §4. */
const ECHO = { v4: { request: 8, reply: 0 }, v6: { request: 128, reply: 129 } } as const

/** A pinger for addresses of the family of `address`. */
export function openPinger(from: Pick<Namespace, 'run'>, address: string): Pinger {
  const syscalls = loadTestSyscalls()
  const v6 = isIPv6(address)
  const type = SOCK_RAW | O_NONBLOCK | O_CLOEXEC
  const fd = from.run(() =>
    v6 ? syscalls.socket(AF_INET6, type, IPPROTO_ICMPV6) : syscalls.socket(AF_INET, type, IPPROTO_ICMP),
  )
  const identifier = (fd * 257 + process.pid) & 0xffff
  let sequence = 0
  const closing = new AbortController()
  return {
    once: async (target, waitMs) => {
      sequence = (sequence + 1) & 0xffff
      const sentAtMs = performance.now()
      syscalls.sendto(fd, echoRequest(v6, identifier, sequence), socketAddress(target))
      const own = sequence
      const isOwn = (bytes: Buffer) => isReply(bytes, v6, identifier, own)
      const answered = await replied(syscalls, fd, isOwn, waitMs, closing.signal)
      return answered === undefined ? undefined : answered - sentAtMs
    },
    [Symbol.dispose]: () => {
      // Whoever waits still reads the descriptor, whose number may be another's once it is closed.
      closing.abort()
      syscalls.close(fd)
    },
  }
}

/** When a datagram that fits was read, or undefined after `waitMs` or when the pinger is closed. */
function replied(
  syscalls: TestSyscalls,
  fd: number,
  fits: (bytes: Buffer) => boolean,
  waitMs: number,
  closing: AbortSignal,
): Promise<number | undefined> {
  return new Promise(resolve => {
    const buffer = Buffer.alloc(2048)
    const settle = (atMs: number | undefined): void => {
      clearTimeout(timer)
      watch[Symbol.dispose]()
      closing.removeEventListener('abort', onClosing)
      resolve(atMs)
    }
    const onClosing = () => settle(undefined)
    const watch = watchReadable(fd, () => {
      for (let length = syscalls.read(fd, buffer); length !== undefined; length = syscalls.read(fd, buffer)) {
        if (fits(buffer.subarray(0, length))) return settle(performance.now())
      }
    })
    const timer = setTimeout(settle, waitMs, undefined)
    closing.addEventListener('abort', onClosing)
    watch.start()
  })
}

function echoRequest(v6: boolean, identifier: number, sequence: number): Buffer {
  const message = Buffer.alloc(64)
  message.writeUInt8(v6 ? ECHO.v6.request : ECHO.v4.request, 0)
  message.writeUInt16BE(identifier, 4)
  message.writeUInt16BE(sequence, 6)
  // The kernel fills in ICMPv6's, which covers the addresses too.
  if (!v6) message.writeUInt16BE(internetChecksum(message), 2)
  return message
}

/** An IPv4 raw socket gives the IP header too, raw(7); an IPv6 one does not. */
function isReply(bytes: Buffer, v6: boolean, identifier: number, sequence: number): boolean {
  const message = v6 ? bytes : bytes.subarray((bytes.readUInt8(0) & 0xf) * 4)
  if (message.length < 8) return false
  const type = v6 ? ECHO.v6.reply : ECHO.v4.reply
  return message[0] === type && message.readUInt16BE(4) === identifier && message.readUInt16BE(6) === sequence
}

/** `struct sockaddr_in` (ip(7)) or `struct sockaddr_in6` (ipv6(7)). */
function socketAddress(address: string): Buffer {
  const v6 = isIPv6(address)
  const out = Buffer.alloc(v6 ? 28 : 16)
  out.writeUInt16LE(v6 ? AF_INET6 : AF_INET, 0)
  out.set(addressBytes(address), v6 ? 8 : 4)
  return out
}

/** RFC 1071, of bytes whose own checksum field is zero. */
export function internetChecksum(bytes: Uint8Array): number {
  let sum = 0
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}
