import { execFileSync } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import type { Qos, TapQos } from '../../src/gen/ovs/bridge/v1/qos.js'
import type { Qdisc } from '../../src/kernel/index.js'
import { decodeAttributes } from '../../src/kernel/netlink/attribute.js'
import { encodeIngressQdisc, ingressDevice } from '../../src/kernel/netlink/policer-message.js'
import {
  decodeRootQdisc,
  encodeQdiscQuery,
  ourHandles,
  RTM_DELQDISC,
  RTM_GETQDISC,
  RTM_NEWQDISC,
} from '../../src/kernel/netlink/qdisc-message.js'
import { NETLINK_ROUTE, type NetlinkRequest, openNetlinkSocket } from '../../src/kernel/netlink/socket.js'
import { littleEndian, viewOf } from '../../src/lib/byte-order.js'
import { loadSyscalls } from '../../src/lib/syscall.js'
import type { FrameSocket } from './frame-socket.js'
import { findLink } from './links.js'
import type { Namespace } from './namespace.js'
import type { Api } from './rpc.js'
import type { Testbed } from './testbed.js'

/** The root qdisc of a device of this thread's namespace, asked without the service, and by a dump: others do not hear of it. */
export function rootQdisc(device: string): Qdisc | undefined {
  const index = indexOf(device)
  const { messages } = exchange('dump', { type: RTM_GETQDISC, payload: encodeQdiscQuery(0) })
  const roots = messages.flatMap(({ type, payload }) => (type === RTM_NEWQDISC ? (decodeRootQdisc(payload) ?? []) : []))
  return roots.find(root => root.index === index)?.qdisc
}

/** How a device queues, as the kernel tells it. */
export interface Queueing {
  readonly root: Qdisc | undefined
  readonly hasIngress: boolean
  /** Every qdisc with its settings, byte for byte. */
  readonly raw: readonly string[]
}

/** By the index of the device, in one dump. */
export function listQueueing(): ReadonlyMap<number, Queueing> {
  const devices = new Map<number, Queueing>()
  const { messages } = exchange('dump', { type: RTM_GETQDISC, payload: encodeQdiscQuery(0) })
  for (const { type, payload } of messages) {
    if (type !== RTM_NEWQDISC) continue
    // `struct tcmsg`: device, handle and parent; then TCA_KIND and TCA_OPTIONS.
    const [device, attributes] = [viewOf(payload).getInt32(4, littleEndian), decodeAttributes(payload.subarray(20))]
    const parts = [payload.subarray(8, 16), ...[1, 2].map(key => attributes.get(key) ?? new Uint8Array())]
    const former = devices.get(device) ?? { root: undefined, hasIngress: false, raw: [] }
    devices.set(device, {
      root: decodeRootQdisc(payload)?.qdisc ?? former.root,
      hasIngress: former.hasIngress || ingressDevice(payload) !== undefined,
      raw: [...former.raw, parts.map(part => Buffer.from(part).toString('hex')).join(' ')].sort(),
    })
  }
  return devices
}

/** What `tc qdisc del dev DEVICE root` does. */
export function deleteRootQdisc(device: string): void {
  const kind = rootQdisc(device)?.kind
  if (kind !== 'tbf' && kind !== 'netem') throw new Error(`the root qdisc of ${device} is ${kind}`)
  const payload = encodeQdiscQuery(indexOf(device), ourHandles[kind])
  const { errno, text } = exchange('request', { type: RTM_DELQDISC, payload })
  if (errno !== 0) throw new Error(`delete the root qdisc of ${device}: errno ${errno} ${text}`)
}

/** Whether a device has an ingress qdisc, with or without a filter. */
export function hasIngressQdisc(device: string): boolean {
  const index = indexOf(device)
  const { messages } = exchange('dump', { type: RTM_GETQDISC, payload: encodeQdiscQuery(0) })
  return messages.some(({ type, payload }) => type === RTM_NEWQDISC && ingressDevice(payload) === index)
}

/** How fast the kernel lets come in what a device receives, as tc(8) says it, without ours having read it: `30Mbit`. */
export function policedRate(device: string): string | undefined {
  const filters = execFileSync('tc', ['filter', 'show', 'dev', device, 'ingress'], { encoding: 'utf8' })
  return /\bpolice\b.* rate (\S+)/.exec(filters)?.[1]
}

/** What `tc qdisc del dev DEVICE ingress` does. */
export function deleteIngressQdisc(device: string): void {
  const { errno, text } = exchange('request', { type: RTM_DELQDISC, payload: encodeIngressQdisc(indexOf(device)) })
  if (errno !== 0) throw new Error(`delete the ingress qdisc of ${device}: errno ${errno} ${text}`)
}

function indexOf(device: string): number {
  const link = findLink(device)
  if (link === undefined) throw new Error(`no link ${device}`)
  return link.index
}

function exchange(how: 'request' | 'dump', request: NetlinkRequest) {
  const opened = openNetlinkSocket(loadSyscalls(), NETLINK_ROUTE)
  if (!opened.ok) throw new Error(`netlink socket: errno ${opened.errno}`)
  using socket = opened.value
  return socket[how](request)
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

/** Frames that a container's `veth0` has received. */
export function receivedFrames(at: Namespace): number {
  return Number(at.run(() => findLink('veth0'))?.statistics.rxPackets ?? 0n)
}

/** Without what is not set. */
export function setOf(qos: Qos | undefined): Qos {
  return Object.fromEntries(Object.entries(qos ?? {}).filter(([, value]) => value !== undefined))
}

/** Towards the endpoint: wanted, real. */
export function bothOf(qos: TapQos | undefined): readonly Qos[] {
  return [setOf(qos?.toEndpoint), setOf(qos?.actualToEndpoint)]
}

export async function qosOf({ api }: { readonly api: Api }, tap: string): Promise<readonly Qos[]> {
  return bothOf((await api.getQos({ tap })).qos)
}

/** From the endpoint: wanted, real. */
export async function policingOf({ api }: { readonly api: Api }, tap: string): Promise<readonly Qos[]> {
  const { qos } = await api.getQos({ tap })
  return [setOf(qos?.fromEndpoint), setOf(qos?.actualFromEndpoint)]
}

export async function timesRestored({ api }: { readonly api: Api }, tap: string): Promise<number> {
  return Number((await api.getQos({ tap })).qos?.timesRestored)
}

/** Has a tap's record say something else, as somebody with access to the database would. */
export async function setInRecord(
  { ovs }: Pick<Testbed, 'ovs'>,
  tap: string,
  key: string,
  value: string,
): Promise<void> {
  await ovs.transact({
    op: 'mutate',
    table: 'QoS',
    where: [['external_ids', 'includes', ['map', [['ovs-bridged:tap', tap]]]]],
    mutations: [
      ['external_ids', 'delete', ['set', [`ovs-bridged:${key}`]]],
      ['external_ids', 'insert', ['map', [[`ovs-bridged:${key}`, value]]]],
    ],
  })
}
