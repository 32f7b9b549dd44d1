/**
 * A process that sends Ethernet frames out of a link of its namespace, as evenly as it can, and prints how many it sent and
 * for how many seconds. Arguments: link, bytes of a frame, frames a second (0: as fast as it can), seconds.
 *
 * The frames are segments of TCP: it hands the kernel many of them as one, which the kernel cuts up on the way to the link.
 * So it costs about half of what a system call's work for each would, and the receiver is what bounds a rate.
 */
import koffi from 'koffi'
import { findLink } from '../test/support/links.js'
import { loadTestSyscalls } from '../test/support/syscalls.js'

const [linkName = '', ...figures] = process.argv.slice(2)
const [bytes = 0, perSecond = 0, seconds = 0] = figures.map(Number)

/** packet(7), <linux/if_packet.h>, <linux/sockios.h>, <linux/ethtool.h> */
const AF_PACKET = 17
const SOCK_RAW = 3
const SOL_PACKET = 263
const PACKET_VNET_HDR = 15
const SIOCETHTOOL = 0x8946
const ETHTOOL_STSO = 0x1f
const pointerAt = 16

/** Frames in one system call. */
const batch = 32

const syscalls = loadTestSyscalls()

function int(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32LE(value)
  return bytes
}

function openSocket(): number {
  const fd = syscalls.socket(AF_PACKET, SOCK_RAW, 0)
  syscalls.setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, int(1))
  const address = Buffer.alloc(20)
  address.writeUInt16LE(AF_PACKET, 0)
  address.writeInt32LE(findLink(linkName)?.index ?? 0, 4)
  syscalls.bind(fd, address)
  return fd
}

/** Or the other end of a veth would have the segments as one. */
function cutSegments(fd: number): void {
  const value = Buffer.concat([int(ETHTOOL_STSO), int(0)])
  const request = Buffer.alloc(40)
  request.write(linkName)
  request.writeBigUInt64LE(koffi.address(value), pointerAt)
  syscalls.ioctl(fd, SIOCETHTOOL, request)
}

/** `struct virtio_net_hdr`, then Ethernet, IPv4 and TCP (RFC 791 §3.1, RFC 9293 §3.1), to an address that nobody has. */
const vnetBytes = 10
const [ethernetBytes, ipBytes, tcpBytes] = [14, 20, 20]
const headerBytes = ethernetBytes + ipBytes + tcpBytes
const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
const VIRTIO_NET_HDR_GSO_TCPV4 = 1
const checksumAt = 16

function segments(): Buffer {
  const segmentBytes = bytes - headerBytes
  const message = Buffer.alloc(vnetBytes + headerBytes + batch * segmentBytes)
  message.writeUInt8(VIRTIO_NET_HDR_F_NEEDS_CSUM, 0)
  message.writeUInt8(VIRTIO_NET_HDR_GSO_TCPV4, 1)
  message.writeUInt16LE(headerBytes, 2)
  message.writeUInt16LE(segmentBytes, 4)
  message.writeUInt16LE(ethernetBytes + ipBytes, 6)
  message.writeUInt16LE(checksumAt, 8)
  const ethernet = message.subarray(vnetBytes)
  ethernet.write('0200000000020200000000010800', 'hex')
  const ip = ethernet.subarray(ethernetBytes)
  ip.write('45000000000000004006000000000000', 'hex')
  ip.writeUInt16BE(ip.length, 2)
  ip.write('0a0000010a000002', 12, 'hex')
  // The header's length in words, and ACK.
  ip.subarray(ipBytes).writeUInt16BE(0x5010, 12)
  return message
}

const fd = openSocket()
cutSegments(fd)
const message = segments()
const startedAt = performance.now()
let sent = 0
for (let elapsedS = 0; elapsedS < seconds; elapsedS = (performance.now() - startedAt) / 1_000) {
  if (perSecond !== 0 && elapsedS * perSecond - sent < batch) continue
  syscalls.send(fd, message)
  sent += batch
}
process.stdout.write(JSON.stringify({ sent, seconds: (performance.now() - startedAt) / 1_000 }))
