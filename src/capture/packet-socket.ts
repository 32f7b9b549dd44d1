import { littleEndian, viewOf } from '../lib/byte-order.js'
import { addressOf, errnoName, type Syscalls } from '../lib/syscall.js'

/** A frame as the kernel hands it over; its bytes are valid until the next ones are received. */
export interface Packet {
  /** Index of the device it went through. */
  readonly device: number
  /** The host sent it into the device; otherwise it came out of it. */
  readonly outgoing: boolean
  /** TCI of the tag that the kernel has taken out of it; undefined: none. */
  readonly strippedTci: number | undefined
  readonly bytes: Buffer
}

/** Frames of all devices of the calling thread's namespace, as far as a filter lets them through (packet(7)). */
export interface PacketSocket extends Disposable {
  readonly fd: number
  /** Replaces the filter; what already waits stays. */
  setFilter(program: Uint8Array): void
  /** Some of the frames that wait, at most {@link maxPackets}. */
  receive(): readonly Packet[]
  /** How many frames passed the filter since the last time it was asked, and how many of them found no room. */
  takeCounts(): { readonly passed: number; readonly lost: number }
}

const AF_PACKET = 17
const SOCK_RAW = 3
const SOCK_NONBLOCK = 0o4000
const SOCK_CLOEXEC = 0o2000000
/** <linux/if_ether.h>: what comes before a bridge or Open vSwitch takes a frame away. */
const ETH_P_ALL = 0x0003
const SOL_SOCKET = 1
const SO_ATTACH_FILTER = 26
const SO_RCVBUFFORCE = 33
const SOL_PACKET = 263
const PACKET_STATISTICS = 6
const PACKET_AUXDATA = 8
const PACKET_OUTGOING = 4
/** <linux/if_packet.h>: tp_status of `struct tpacket_auxdata`. */
const TP_STATUS_VLAN_VALID = 1 << 4
const SIOCGIFNAME = 0x8910

export const maxPackets = 64
const frameBytes = 2048

/** Opens one whose queue takes about `queueBytes`, each frame with the kernel's own bookkeeping. */
export function openPacketSocket(syscalls: Syscalls, program: Uint8Array, queueBytes: number): PacketSocket {
  // Protocol 0 hears nothing before it is bound, so no frame gets past the filter.
  const fd = must('socket', syscalls.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0))
  const inbox = newInbox()
  const statistics = new Uint8Array(8)
  const socket: PacketSocket = {
    fd,
    setFilter: code => void must('SO_ATTACH_FILTER', attachFilter(syscalls, fd, code)),
    receive: () => {
      const count = syscalls.recvmmsg(fd, inbox.headers, maxPackets)
      return count > 0 ? inbox.packets(count) : []
    },
    takeCounts: () => {
      must('PACKET_STATISTICS', syscalls.getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, statistics))
      const view = new DataView(statistics.buffer)
      return { passed: view.getUint32(0, littleEndian), lost: view.getUint32(4, littleEndian) }
    },
    [Symbol.dispose]: () => syscalls.close(fd),
  }
  try {
    must('PACKET_AUXDATA', syscalls.setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, int(1)))
    must('SO_RCVBUFFORCE', syscalls.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, int(queueBytes)))
    socket.setFilter(program)
    must('bind', syscalls.bind(fd, anyDevice()))
    return socket
  } catch (error) {
    socket[Symbol.dispose]()
    throw error
  }
}

/** Name of a device by its index; undefined: it is gone. `fd`: any socket of the device's namespace. */
export function deviceName(syscalls: Syscalls, fd: number, index: number): string | undefined {
  // struct ifreq: the name, and then a union that begins with the index.
  const request = Buffer.alloc(40)
  viewOf(request).setInt32(16, index, littleEndian)
  if (syscalls.ioctl(fd, SIOCGIFNAME, request) < 0) return undefined
  return request.toString('utf8', 0, Math.min(request.indexOf(0), 16))
}

/** Lets through a packet socket only what a program takes (socket(7), SO_ATTACH_FILTER). Below zero is −errno. */
export function attachFilter(syscalls: Syscalls, fd: number, program: Uint8Array): number {
  // struct sock_fprog is { unsigned short len; struct sock_filter *filter }.
  const fprog = new DataView(new ArrayBuffer(16))
  fprog.setUint16(0, program.length / 8, littleEndian)
  fprog.setBigUint64(8, addressOf(program), littleEndian)
  return syscalls.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, new Uint8Array(fprog.buffer))
}

/** `struct sockaddr_ll` of no device in particular. */
function anyDevice(): Uint8Array {
  const address = new DataView(new ArrayBuffer(20))
  address.setUint16(0, AF_PACKET, littleEndian)
  address.setUint16(2, ETH_P_ALL)
  return new Uint8Array(address.buffer)
}

/** Sizes of `struct mmsghdr`, `iovec`, `sockaddr_ll` and of a `cmsghdr` with `tpacket_auxdata`, 64 bits, aligned. */
const headerBytes = 64
const iovecBytes = 16
const addressBytes = 24
const controlBytes = 40
const cmsgHeaderBytes = 16
const auxdataEnd = 36n
/** Offsets in `struct mmsghdr`. */
const at = { name: 0, nameLength: 8, iovec: 16, iovecLength: 24, control: 32, controlLength: 40, length: 56 } as const

/**
 * Room for {@link maxPackets} frames that is filled again and again by recvmmsg(2). It is one block, so that nothing that
 * the kernel is pointed to can be collected before the rest.
 */
function newInbox() {
  const iovecsAt = maxPackets * headerBytes
  const addressesAt = iovecsAt + maxPackets * iovecBytes
  const controlsAt = addressesAt + maxPackets * addressBytes
  const framesAt = controlsAt + maxPackets * controlBytes
  const block = Buffer.alloc(framesAt + maxPackets * frameBytes)
  const view = viewOf(block)
  const base = addressOf(block)
  const setLong = (offset: number, value: number | bigint) => view.setBigUint64(offset, BigInt(value), littleEndian)
  const setPointer = (offset: number, target: number) => setLong(offset, base + BigInt(target))
  /** Where the kernel puts the lengths that it has used, it has found those that there are. */
  const setLengths = (i: number) => {
    view.setUint32(i * headerBytes + at.nameLength, addressBytes, littleEndian)
    setLong(i * headerBytes + at.controlLength, controlBytes)
  }
  for (let i = 0; i < maxPackets; i++) {
    setPointer(iovecsAt + i * iovecBytes, framesAt + i * frameBytes)
    setLong(iovecsAt + i * iovecBytes + 8, frameBytes)
    setPointer(i * headerBytes + at.name, addressesAt + i * addressBytes)
    setPointer(i * headerBytes + at.iovec, iovecsAt + i * iovecBytes)
    setLong(i * headerBytes + at.iovecLength, 1)
    setPointer(i * headerBytes + at.control, controlsAt + i * controlBytes)
    setLengths(i)
  }
  const packet = (i: number): Packet => {
    const length = view.getUint32(i * headerBytes + at.length, littleEndian)
    const hasControl = view.getBigUint64(i * headerBytes + at.controlLength, littleEndian) >= auxdataEnd
    // struct tpacket_auxdata: status, length, captured length, two offsets, TCI, TPID.
    const auxdata = controlsAt + i * controlBytes + cmsgHeaderBytes
    const isTagged = hasControl && (view.getUint32(auxdata, littleEndian) & TP_STATUS_VLAN_VALID) !== 0
    const address = addressesAt + i * addressBytes
    setLengths(i)
    return {
      device: view.getInt32(address + 4, littleEndian),
      outgoing: view.getUint8(address + 10) === PACKET_OUTGOING,
      strippedTci: isTagged ? view.getUint16(auxdata + 16, littleEndian) : undefined,
      bytes: block.subarray(framesAt + i * frameBytes, framesAt + i * frameBytes + length),
    }
  }
  return { headers: block, packets: (count: number) => Array.from({ length: count }, (_, i) => packet(i)) }
}

function int(value: number): Uint8Array {
  const bytes = new DataView(new ArrayBuffer(4))
  bytes.setInt32(0, value, littleEndian)
  return new Uint8Array(bytes.buffer)
}

function must(call: string, result: number): number {
  if (result < 0) throw new Error(`${call}: ${errnoName(-result)}`)
  return result
}
