import { setTimeout as delay } from 'node:timers/promises'
import type { Qdisc } from '../../src/kernel/index.js'
import { NLM_F_ECHO } from '../../src/kernel/netlink/message.js'
import {
  decodeRootQdisc,
  encodeQdiscQuery,
  ourHandles,
  RTM_DELQDISC,
  RTM_GETQDISC,
  RTM_NEWQDISC,
} from '../../src/kernel/netlink/qdisc-message.js'
import { NETLINK_ROUTE, type NetlinkRequest, openNetlinkSocket } from '../../src/kernel/netlink/socket.js'
import { loadSyscalls } from '../../src/kernel/syscall.js'
import type { FrameSocket } from './frame-socket.js'
import { findLink } from './links.js'
import type { Namespace } from './namespace.js'

/** The root qdisc of a device of this thread's namespace, asked without the service. */
export function rootQdisc(device: string): Qdisc | undefined {
  const request = { type: RTM_GETQDISC, flags: NLM_F_ECHO, payload: encodeQdiscQuery(indexOf(device)) }
  const found = exchange(request).messages.find(message => message.type === RTM_NEWQDISC)
  return found === undefined ? undefined : decodeRootQdisc(found.payload)?.qdisc
}

/** What `tc qdisc del dev DEVICE root` does. */
export function deleteRootQdisc(device: string): void {
  const kind = rootQdisc(device)?.kind
  if (kind !== 'tbf' && kind !== 'netem') throw new Error(`the root qdisc of ${device} is ${kind}`)
  const payload = encodeQdiscQuery(indexOf(device), ourHandles[kind])
  const { errno, text } = exchange({ type: RTM_DELQDISC, payload })
  if (errno !== 0) throw new Error(`delete the root qdisc of ${device}: errno ${errno} ${text}`)
}

function indexOf(device: string): number {
  const link = findLink(device)
  if (link === undefined) throw new Error(`no link ${device}`)
  return link.index
}

function exchange(request: NetlinkRequest) {
  const opened = openNetlinkSocket(loadSyscalls(), NETLINK_ROUTE)
  if (!opened.ok) throw new Error(`netlink socket: errno ${opened.errno}`)
  using socket = opened.value
  return socket.request(request)
}

/** The EtherType for experiments (IEEE 802). */
export const experimental = 0x88b5

/** A frame from a station of the test's to another, numbered, of `bytes` bytes. */
export function numberedFrame(number: number, bytes: number): Buffer {
  const frame = Buffer.alloc(bytes, 0x5a)
  frame.write('02000000aa0202000000aa0188b5', 'hex')
  frame.writeUInt32BE(number, 14)
  return frame
}

/** Sends frames of 1,514 bytes at about this pace until stopped; what the wire does not take is lost. */
export function flood(from: FrameSocket, bytesPerSecond: number): AsyncDisposable {
  const stop = new AbortController()
  const frame = numberedFrame(0, 1514)
  const run = async () => {
    const startedAt = performance.now()
    for (let sent = 0; !stop.signal.aborted; await delay(1)) {
      const due = ((performance.now() - startedAt) / 1e3) * (bytesPerSecond / frame.length)
      // A test's thread that was away for a while does not make up for it at once.
      sent = Math.max(sent, due - 200)
      for (; sent < due; sent++) trySend(from, frame)
    }
  }
  const running = run()
  return {
    [Symbol.asyncDispose]: async () => {
      stop.abort()
      await running
    },
  }
}

function trySend(from: FrameSocket, frame: Uint8Array): void {
  try {
    from.send(frame)
  } catch {
    // The wire is full.
  }
}

/** Bytes a second that a container's `veth0` receives in `forMs`, Ethernet headers included. */
export async function receivedBytesPerSecond(to: Namespace, forMs: number): Promise<number> {
  const bytes = () => Number(to.run(() => findLink('veth0'))?.statistics.rxBytes ?? 0n)
  const [before, beganAt] = [bytes(), performance.now()]
  await delay(forMs)
  const [after, endedAt] = [bytes(), performance.now()]
  return ((after - before) / (endedAt - beganAt)) * 1e3
}
