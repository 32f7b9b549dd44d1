import { formatMac } from './address.js'
import { findLink } from './links.js'
import { watchReadable } from './readable.js'
import { loadTestSyscalls, type TestSyscalls } from './syscalls.js'
import { openTapDevice } from './tap-device.js'
import { patienceMs, until } from './until.js'

/** One Ethernet frame as it was on the wire, its 802.1Q tag in its place. */
export interface Frame {
  readonly bytes: Buffer
  readonly destination: string
  readonly source: string
  /** Of the outermost tag; undefined when untagged. */
  readonly vlan: number | undefined
  /** Behind the tags. */
  readonly etherType: number
  /** What follows the EtherType. */
  readonly payload: Buffer
  /** When this process read it, by performance.now(). */
  readonly readAtMs: number
}

/** One end of a wire: a link's packet socket, or what is behind a tap. Not a thread: it lives on the event loop. */
export interface FrameSocket extends Disposable {
  send(frame: Uint8Array): void
  /**
   * The first frame not yet handed out that fits, waiting `deadlineMs` for it ({@link patienceMs} if not given); others
   * stay for later calls. The error names `what`, and what came instead.
   */
  receive(what: string, fits: (frame: Frame) => boolean, options?: { readonly deadlineMs?: number }): Promise<Frame>
  /** Rejects when a frame that fits is there or comes within `windowMs`. */
  receiveNone(what: string, fits: (frame: Frame) => boolean, windowMs: number): Promise<void>
  /** All frames that are there now and were not handed out. */
  drain(): readonly Frame[]
}

/**
 * Sends a frame into one end until what becomes of it comes out of the other, and gives that: a datapath that is being
 * reconfigured may lose one.
 */
export async function passes(
  what: string,
  ends: { readonly from: FrameSocket; readonly to: FrameSocket },
  frame: Uint8Array,
  fits: (frame: Frame) => boolean,
): Promise<Frame> {
  return await until(what, async () => {
    ends.from.send(frame)
    return await ends.to.receive(what, fits, { deadlineMs: 500 })
  })
}

const O_NONBLOCK = 0o4000
const O_CLOEXEC = 0o2000000

const AF_PACKET = 17
const SOCK_RAW = 3
/** packet(7), <linux/if_packet.h>, <linux/if_ether.h> */
const ETH_P_ALL = 0x0003
const SOL_PACKET = 263
const PACKET_AUXDATA = 8
const PACKET_IGNORE_OUTGOING = 23
const SOL_SOCKET = 1
const SO_RCVBUFFORCE = 33
const RECEIVE_BUFFER_BYTES = 8 * 1024 * 1024

/** A packet socket on a link of this thread's namespace: receives what the link receives, and sends out of it. */
export function openPacketSocket(linkName: string): FrameSocket {
  const syscalls = loadTestSyscalls()
  const link = findLink(linkName)
  if (link === undefined) throw new Error(`no link ${linkName} to open a packet socket on`)
  // Protocol 0 hears nothing before it is bound, so no frame of another link gets in.
  const fd = syscalls.socket(AF_PACKET, SOCK_RAW | O_NONBLOCK | O_CLOEXEC, 0)
  syscalls.setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, int(1))
  syscalls.setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, int(1))
  syscalls.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, int(RECEIVE_BUFFER_BYTES))
  const address = Buffer.alloc(20)
  address.writeUInt16LE(AF_PACKET, 0)
  address.writeUInt16BE(ETH_P_ALL, 2)
  address.writeInt32LE(link.index, 4)
  syscalls.bind(fd, address)
  return frameSocket(
    syscalls,
    fd,
    () => receivePacket(syscalls, fd),
    frame => syscalls.send(fd, frame),
  )
}

/** What a virtual machine has of a tap of this thread's namespace: reads what the host sends into it. */
export function openTap(name: string): FrameSocket {
  const syscalls = loadTestSyscalls()
  if (findLink(name) === undefined) throw new Error(`no tap ${name} to open`)
  const fd = openTapDevice(name)
  const buffer = Buffer.alloc(MAX_FRAME_BYTES)
  const readFrame = (): Frame | undefined => {
    const length = syscalls.read(fd, buffer)
    return length === undefined ? undefined : parseFrame(Buffer.from(buffer.subarray(0, length)))
  }
  return frameSocket(syscalls, fd, readFrame, frame => syscalls.write(fd, frame))
}

interface Waiter {
  readonly fits: (frame: Frame) => boolean
  readonly found: (frame: Frame) => void
}

function frameSocket(
  syscalls: TestSyscalls,
  fd: number,
  readFrame: () => Frame | undefined,
  send: (frame: Uint8Array) => void,
): FrameSocket {
  let unclaimed: Frame[] = []
  const waiters = new Set<Waiter>()
  const readAll = (): void => {
    for (let frame = readFrame(); frame !== undefined; frame = readFrame()) {
      const arrived = frame
      const waiter = [...waiters].find(candidate => candidate.fits(arrived))
      if (waiter === undefined) unclaimed.push(arrived)
      else waiter.found(arrived)
    }
  }
  const watch = watchReadable(fd, readAll)

  const next = (fits: (frame: Frame) => boolean, forMs: number): Promise<Frame | undefined> => {
    readAll()
    const index = unclaimed.findIndex(fits)
    if (index >= 0) return Promise.resolve(unclaimed.splice(index, 1)[0])
    return new Promise(resolve => {
      const settle = (frame: Frame | undefined): void => {
        clearTimeout(timer)
        waiters.delete(waiter)
        if (waiters.size === 0) watch.pause()
        resolve(frame)
      }
      const waiter: Waiter = { fits, found: settle }
      const timer = setTimeout(settle, forMs, undefined)
      waiters.add(waiter)
      watch.start()
    })
  }

  return {
    send,
    receive: async (what, fits, options = {}) => {
      const { deadlineMs = patienceMs } = options
      const frame = await next(fits, deadlineMs)
      if (frame !== undefined) return frame
      throw new Error(`not within ${deadlineMs} ms: ${what}; came instead: ${summary(unclaimed)}`)
    },
    receiveNone: async (what, fits, windowMs) => {
      const frame = await next(fits, windowMs)
      if (frame !== undefined) throw new Error(`came, and should not have: ${what}: ${describeFrame(frame)}`)
    },
    drain: () => {
      readAll()
      const all = unclaimed
      unclaimed = []
      return all
    },
    [Symbol.dispose]: () => {
      watch[Symbol.dispose]()
      syscalls.close(fd)
    },
  }
}

const MAX_FRAME_BYTES = 65_600

/** struct tpacket_auxdata behind a struct cmsghdr, packet(7). */
const TP_STATUS_VLAN_VALID = 1 << 4
const TP_STATUS_VLAN_TPID_VALID = 1 << 6
const CMSG_DATA = 16

function receivePacket(syscalls: TestSyscalls, fd: number): Frame | undefined {
  const buffer = Buffer.alloc(MAX_FRAME_BYTES)
  const control = Buffer.alloc(64)
  const received = syscalls.receive(fd, buffer, control)
  if (received === undefined) return undefined
  const bytes = Buffer.from(buffer.subarray(0, received.length))
  if (received.controlLength < CMSG_DATA + 20) return parseFrame(bytes)
  const status = control.readUInt32LE(CMSG_DATA)
  if ((status & TP_STATUS_VLAN_VALID) === 0) return parseFrame(bytes)
  // The kernel took the tag out of the frame; here it is put back.
  const tag = Buffer.alloc(4)
  tag.writeUInt16BE((status & TP_STATUS_VLAN_TPID_VALID) === 0 ? 0x8100 : control.readUInt16LE(CMSG_DATA + 18), 0)
  tag.writeUInt16BE(control.readUInt16LE(CMSG_DATA + 16), 2)
  return parseFrame(Buffer.concat([bytes.subarray(0, 12), tag, bytes.subarray(12)]))
}

/** IEEE 802.1Q and 802.1ad. */
const TAG_ETHER_TYPES: ReadonlySet<number> = new Set([0x8100, 0x88a8])

/** Reads the headers of a frame with any number of tags. */
function parseFrame(bytes: Buffer): Frame {
  let at = 12
  let vlan: number | undefined
  while (bytes.length >= at + 6 && TAG_ETHER_TYPES.has(bytes.readUInt16BE(at))) {
    vlan ??= bytes.readUInt16BE(at + 2) & 0xfff
    at += 4
  }
  return {
    bytes,
    destination: formatMac(bytes.subarray(0, 6)),
    source: formatMac(bytes.subarray(6, 12)),
    vlan,
    etherType: bytes.readUInt16BE(at),
    payload: bytes.subarray(at + 2),
    readAtMs: performance.now(),
  }
}

function summary(frames: readonly Frame[]): string {
  if (frames.length === 0) return 'nothing'
  const shown = frames.slice(-5).map(describeFrame).join('; ')
  return frames.length > 5 ? `${frames.length} frames, the last: ${shown}` : shown
}

function describeFrame(frame: Frame): string {
  const vlan = frame.vlan === undefined ? '' : ` vlan ${frame.vlan}`
  return `${frame.source} > ${frame.destination}${vlan} type 0x${frame.etherType.toString(16)} ${frame.bytes.length} bytes`
}

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  return bytes
}
