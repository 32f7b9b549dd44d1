/**
 * A process that sends Ethernet frames out of a link of its namespace, as evenly as it can, and prints how many it sent and
 * for how many seconds. Arguments: link, bytes of a frame, frames a second (0: as fast as it can), seconds.
 */
import koffi from 'koffi'
import { findLink } from '../test/support/links.js'
import { loadTestSyscalls } from '../test/support/syscalls.js'

const [linkName = '', bytes = 0, perSecond = 0, seconds = 0] = process.argv
  .slice(2)
  .map((argument, index) => (index === 0 ? argument : Number(argument))) as [string, number, number, number]

const AF_PACKET = 17
const SOCK_RAW = 3
const SOL_PACKET = 263
const PACKET_QDISC_BYPASS = 20

/** Frames in one system call. */
const batch = 64

const syscalls = loadTestSyscalls()
const sendmmsg = koffi.load('libc.so.6').func('int sendmmsg(int, void *, unsigned int, int)')

function openSocket(): number {
  const fd = syscalls.socket(AF_PACKET, SOCK_RAW, 0)
  const one = Buffer.alloc(4)
  one.writeInt32LE(1)
  syscalls.setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, one)
  const address = Buffer.alloc(20)
  address.writeUInt16LE(AF_PACKET, 0)
  address.writeInt32LE(findLink(linkName)?.index ?? 0, 4)
  syscalls.bind(fd, address)
  return fd
}

/** `struct mmsghdr`s that all send the same frame. */
function messagesOf(frame: Buffer, iovec: Buffer): Buffer {
  const headerBytes = 64
  iovec.writeBigUInt64LE(koffi.address(frame), 0)
  iovec.writeBigUInt64LE(BigInt(frame.length), 8)
  const messages = Buffer.alloc(batch * headerBytes)
  for (let i = 0; i < batch; i++) {
    messages.writeBigUInt64LE(koffi.address(iovec), i * headerBytes + 16)
    messages.writeBigUInt64LE(1n, i * headerBytes + 24)
  }
  return messages
}

const frame = Buffer.alloc(bytes)
frame.write('ffffffffffff02000000000188b5', 'hex')
const iovec = Buffer.alloc(16)
const messages = messagesOf(frame, iovec)
const fd = openSocket()
const startedAt = performance.now()
let sent = 0
for (let elapsedS = 0; elapsedS < seconds; elapsedS = (performance.now() - startedAt) / 1_000) {
  const due = perSecond === 0 ? batch : Math.min(Math.floor(elapsedS * perSecond) - sent, batch)
  if (due <= 0) continue
  const count = Number(sendmmsg(fd, messages, due, 0))
  if (count > 0) sent += count
}
process.stdout.write(JSON.stringify({ sent, seconds: (performance.now() - startedAt) / 1_000 }))
