import { openChannel } from './channel.js'
import type {
  Deletion,
  Device,
  KernelFacts,
  Link,
  LinkChange,
  LinkEvent,
  LinkTarget,
  Policer,
  Qdisc,
  QdiscEvent,
  QdiscSpec,
  TapSpec,
  Veth,
  VethSpec,
} from './link.js'
import { watchLinks, watchQdiscs } from './watch.js'

/**
 * The network devices of the namespace in which it was opened.
 *
 * Every call is one round trip to one thread that makes the system calls, in the order of the calls;
 * taps that calls one after the other ask for are made side by side.
 * An abort rejects with `aborted` at once. Before the thread took the request nothing happens; afterwards the thread
 * stops at the next device, and what the creating calls had made is deleted again, before any later call of this Kernel
 * is looked at: an aborted creation leaves nothing. `setLink` and `deleteLinks` may have been carried out.
 * A call that was complete when the signal came succeeds. All throw KernelError.
 */
export interface Kernel extends AsyncDisposable {
  /**
   * Makes persistent taps, up, without the host's own ARP and IPv6 traffic. All or none: at the first failure those made
   * are deleted, and the problem carries the index of its spec.
   */
  createTaps(specs: readonly TapSpec[], signal: AbortSignal): Promise<Device[]>
  /** Makes a veth pair with its peer, up, inside another namespace, which is never entered. */
  createVeth(spec: VethSpec, signal: AbortSignal): Promise<Veth>
  /** By its very name; alternative names do not count. */
  getLink(name: string, signal: AbortSignal): Promise<Link | undefined>
  listLinks(signal: AbortSignal): Promise<Link[]>
  /** All in one message. When the kernel refuses a part, what it applied before stays. */
  setLink(name: string, change: LinkChange, signal: AbortSignal): Promise<void>
  /** Deletes what is there of the targets; a target that cannot be deleted does not hold up the others. */
  deleteLinks(targets: readonly LinkTarget[], signal: AbortSignal): Promise<Deletion>
  /** The events of the namespace, until the signal or the Kernel's end, at which it ends without a throw. */
  watchLinks(signal: AbortSignal): AsyncIterable<LinkEvent>
  /**
   * Makes this the root qdisc of the device, in place of whatever it was; a refusal leaves that. One of ours of the same
   * kind is changed as it stands: it keeps what waits in it, and of what others have set what `spec` cannot say. With
   * `afresh` it is made anew, and loses both. Throws `no-qdisc` when the kernel has none of the kind.
   */
  setQdisc(index: number, spec: QdiscSpec, afresh: boolean, signal: AbortSignal): Promise<void>
  /** Removes the root qdisc of the device if `setQdisc` made it; any other stays. */
  removeQdisc(index: number, signal: AbortSignal): Promise<void>
  /** The root qdisc of the device; undefined for one that the kernel does not show. */
  getQdisc(index: number, signal: AbortSignal): Promise<Qdisc | undefined>
  /** The root qdiscs of all devices, by the device's index. */
  listQdiscs(signal: AbortSignal): Promise<ReadonlyMap<number, Qdisc>>
  /** Removes what treats the frames that the device receives, whoever set it. */
  removeIngressQdisc(index: number, signal: AbortSignal): Promise<void>
  /** The policer of all that the device receives; undefined when there is none. */
  getPolicer(index: number, signal: AbortSignal): Promise<Policer | undefined>
  /**
   * As {@link watchLinks}, of root qdiscs and of the loss of ingress filters. A device takes its qdisc along without an
   * event.
   */
  watchQdiscs(signal: AbortSignal): AsyncIterable<QdiscEvent>
  /** Changes nothing; may have the kernel load the modules it asks for. */
  probe(signal: AbortSignal): Promise<KernelFacts>
}

/** Opens the devices of the calling thread's network namespace. Disposing it rejects what is pending with `aborted`. */
export async function openKernel(): Promise<Kernel> {
  const channel = await openChannel()
  const closing = new AbortController()
  const watchThreads = new Set<Promise<void>>()

  return {
    createTaps: (specs, signal) => channel.call('createTaps', specs, signal),
    createVeth: (spec, signal) => channel.call('createVeth', spec, signal),
    getLink: (name, signal) => channel.call('getLink', name, signal),
    listLinks: signal => channel.call('listLinks', undefined, signal),
    setLink: (name, change, signal) => channel.call('setLink', { name, change }, signal),
    deleteLinks: (targets, signal) => channel.call('deleteLinks', targets, signal),
    setQdisc: (index, spec, afresh, signal) => channel.call('setQdisc', { index, spec, afresh }, signal),
    removeQdisc: (index, signal) => channel.call('removeQdisc', index, signal),
    getQdisc: (index, signal) => channel.call('getQdisc', index, signal),
    listQdiscs: signal => channel.call('listQdiscs', undefined, signal),
    removeIngressQdisc: (index, signal) => channel.call('removeIngressQdisc', index, signal),
    getPolicer: (index, signal) => channel.call('getPolicer', index, signal),
    watchQdiscs: signal => watchQdiscs(channel.portId, AbortSignal.any([signal, closing.signal]), watchThreads),
    probe: signal => channel.call('probe', undefined, signal),
    watchLinks: signal => watchLinks(AbortSignal.any([signal, closing.signal]), watchThreads),
    [Symbol.asyncDispose]: async () => {
      closing.abort()
      await Promise.all([channel[Symbol.asyncDispose](), ...watchThreads])
    },
  }
}
