import { constants } from 'node:os'
import { littleEndian, viewOf } from '../../lib/byte-order.js'
import { MSG_DONTWAIT, type Syscalls } from '../../lib/syscall.js'
import {
  type Acknowledgement,
  decodeAcknowledgement,
  decodeMessages,
  encodeMessage,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
} from './message.js'

export const NETLINK_ROUTE = 0
export const NETLINK_GENERIC = 16

/** A request: its message type, the flags beyond NLM_F_REQUEST and NLM_F_ACK, and what follows the header. */
export interface NetlinkRequest {
  readonly type: number
  readonly flags?: number
  readonly payload: Uint8Array
}

/** What came back; with `errno` other than 0 (positive, as errno(3)) the kernel said no. */
export interface NetlinkAnswer extends Acknowledgement {
  readonly messages: readonly NetlinkMessage[]
}

/** A socket for requests, each answered before the next is sent (netlink(7)). Every call blocks. */
export interface NetlinkSocket extends Disposable {
  /** Sends one request and reads up to its acknowledgement. */
  request(request: NetlinkRequest): NetlinkAnswer
  /**
   * Sends several in one datagram. The kernel carries them out in this order, and one that it refuses does not hold up the
   * others. All their answers have to fit into the socket's buffer: else ENOBUFS, and what became of them is not known.
   */
  requestEach<R extends NetlinkRequest>(requests: readonly R[]): (readonly [R, NetlinkAnswer])[]
  /** Reads a whole table; again from the start when it changed meanwhile. */
  dump(request: NetlinkRequest): NetlinkAnswer
  /** Its address, by which notifications tell whose request they come from. Throws when the kernel does not answer. */
  portId(): number
}

const AF_NETLINK = 16
const SOCK_RAW = 3
const SOCK_CLOEXEC = 0o2000000
const SOL_SOCKET = 1
const SO_RCVBUF = 8
const SO_RCVTIMEO = 20
const SOL_NETLINK = 270
const NETLINK_CAP_ACK = 10
const NETLINK_EXT_ACK = 11
const MSG_TRUNC = 0x20

/** The kernel fills dump datagrams up to 32 KiB (netlink_dump in af_netlink.c). */
const receiveBytes = 65536
/** The kernel answers before send(2) returns; only an answer it had no memory for never comes. */
const answerTimeoutS = 5
const dumpAttempts = 10

export type Opened<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly errno: number }

export function openNetlinkSocket(syscalls: Syscalls, protocol: number): Opened<NetlinkSocket> {
  const opened = openDescriptor(syscalls, protocol, 0)
  if (!opened.ok) return opened
  const fd = opened.value
  setOption(syscalls, fd, SOL_SOCKET, SO_RCVTIMEO, timeval(answerTimeoutS))
  setOption(syscalls, fd, SOL_NETLINK, NETLINK_EXT_ACK, int(1))
  setOption(syscalls, fd, SOL_NETLINK, NETLINK_CAP_ACK, int(1))
  return { ok: true, value: requestSocket(syscalls, fd) }
}

/**
 * A descriptor that hears one multicast group, with room for `backlogBytes` of unread messages as far as
 * net.core.rmem_max allows.
 */
export function openNetlinkListener(
  syscalls: Syscalls,
  protocol: number,
  group: number,
  backlogBytes: number,
): Opened<number> {
  const opened = openDescriptor(syscalls, protocol, 1 << (group - 1))
  if (opened.ok) setOption(syscalls, opened.value, SOL_SOCKET, SO_RCVBUF, int(backlogBytes))
  return opened
}

/** The messages of the next datagram, copied out of `buffer`; or −errno, ENOBUFS when some were lost. Blocks. */
export function receiveMessages(syscalls: Syscalls, fd: number, buffer: Uint8Array): NetlinkMessage[] | number {
  const length = syscalls.recv(fd, buffer, MSG_TRUNC)
  if (length < 0) return length
  if (length > buffer.length) return -constants.errno.EMSGSIZE
  return decodeMessages(buffer.slice(0, length))
}

export function receiveBuffer(): Uint8Array {
  return new Uint8Array(receiveBytes)
}

function openDescriptor(syscalls: Syscalls, protocol: number, groups: number): Opened<number> {
  const fd = syscalls.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol)
  if (fd < 0) return { ok: false, errno: -fd }
  const bound = syscalls.bind(fd, sockaddr(groups))
  if (bound >= 0) return { ok: true, value: fd }
  syscalls.close(fd)
  return { ok: false, errno: -bound }
}

function requestSocket(syscalls: Syscalls, fd: number): NetlinkSocket {
  const buffer = receiveBuffer()
  let sequence = 0

  function exchange(request: NetlinkRequest, extraFlags: number): NetlinkAnswer {
    const sent = syscalls.send(fd, encode(request, extraFlags))
    return answered(sent < 0 ? sent : collect(sequence))
  }

  function requestEach<R extends NetlinkRequest>(requests: readonly R[]): (readonly [R, NetlinkAnswer])[] {
    if (requests.length === 0) return []
    const first = sequence + 1
    const sent = syscalls.send(fd, Buffer.concat(requests.map(request => encode(request, 0))))
    let failure = Math.min(sent, 0)
    return requests.map((request, i) => {
      const collected = failure < 0 ? failure : collect((first + i) >>> 0)
      if (typeof collected === 'number') {
        failure = collected
        discardAnswers()
      }
      return [request, answered(collected)]
    })
  }

  /** One is lost, and the kernel has no room for those of the next request while the others lie there. */
  function discardAnswers(): void {
    while (syscalls.recv(fd, buffer, MSG_TRUNC | MSG_DONTWAIT) >= 0);
  }

  function encode({ type, flags = 0, payload }: NetlinkRequest, extraFlags: number): Uint8Array {
    sequence = (sequence + 1) >>> 0
    return encodeMessage({ type, flags: NLM_F_REQUEST | NLM_F_ACK | extraFlags | flags, sequence, portId: 0, payload })
  }

  function answered(collected: NetlinkAnswer | number): NetlinkAnswer {
    if (typeof collected !== 'number') return collected
    return { errno: -collected, text: 'no answer to a netlink request', messages: [] }
  }

  /** The answer, or −errno. */
  function collect(expected: number): NetlinkAnswer | number {
    const messages: NetlinkMessage[] = []
    for (;;) {
      const received = receiveMessages(syscalls, fd, buffer)
      if (typeof received === 'number') return received
      for (const message of received) {
        // Left over from a request whose answer was given up.
        if (message.sequence !== expected) continue
        messages.push(message)
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          return { ...decodeAcknowledgement(message), messages }
        }
      }
    }
  }

  function dump(request: NetlinkRequest): NetlinkAnswer {
    for (let attempt = 1; ; attempt++) {
      const answer = exchange(request, NLM_F_DUMP)
      const whole = answer.messages.every(message => (message.flags & NLM_F_DUMP_INTR) === 0)
      if (whole || answer.errno !== 0) return answer
      if (attempt === dumpAttempts)
        return { ...answer, errno: constants.errno.EAGAIN, text: 'the table keeps changing' }
    }
  }

  function portId(): number {
    // Every answer is addressed to it, also that of a request that does nothing.
    const { messages, errno, text } = exchange({ type: NLMSG_NOOP, payload: new Uint8Array() }, 0)
    const answer = messages.at(-1)
    // Our own changes would count as somebody else's for good.
    if (answer === undefined)
      throw new Error(`the kernel does not tell the address of a netlink socket: ${text}, errno ${errno}`)
    return answer.portId
  }

  return {
    request: request => exchange(request, 0),
    requestEach,
    dump,
    portId,
    [Symbol.dispose]: () => {
      syscalls.close(fd)
    },
  }
}

/** Kernels without the option only tell less. */
function setOption(syscalls: Syscalls, fd: number, level: number, option: number, value: Uint8Array): void {
  syscalls.setsockopt(fd, level, option, value)
}

/** `struct sockaddr_nl`: family, padding, port id (0: the kernel picks), groups. */
function sockaddr(groups: number): Uint8Array {
  const out = new Uint8Array(12)
  viewOf(out).setUint16(0, AF_NETLINK, littleEndian)
  viewOf(out).setUint32(8, groups, littleEndian)
  return out
}

function int(value: number): Uint8Array {
  const out = new Uint8Array(4)
  viewOf(out).setInt32(0, value, littleEndian)
  return out
}

function timeval(seconds: number): Uint8Array {
  const out = new Uint8Array(16)
  viewOf(out).setBigInt64(0, BigInt(seconds), littleEndian)
  return out
}
