import type { Kernel } from '../kernel/index.js'
import { raceAbort } from '../lib/abort.js'
import type { Call } from './call.js'
import type { Committer, OvsTransaction, Part } from './commit.js'
import { bridgeOf, type DatapathType, type OvsClient, type OvsReplica, type OvsRows, portOfInterface } from './ovs.js'
import { type TapRecord, tapRecordMarks } from './ownership-tap.js'
import { type BridgeError, tapNotFound, unsupported } from './problem.js'
import type { TapRecords } from './tap-records.js'

/** What policing works on. */
export interface PolicingGrounds {
  readonly instance: string
  readonly kernel: Kernel
  readonly ovsdb: OvsClient
  readonly committer: Committer
  readonly records: TapRecords
  readonly lifetime: AbortSignal
}

/** ovs-vswitchd 3.1 reckons the bytes a second in 32 bits. */
export const maxPolicedKbps = 34_000_000

/**
 * A frame that is longer than the burst never passes, and an endpoint that segments late (TSO) hands over 64 KiB at once.
 * In kilobits of 1,000.
 */
const minBurstKb = Math.ceil((65_536 * 8) / 1e3)
/** The kernel knows a burst as a time: 274 s at most. */
const maxBurstS = 250
const burstS = 0.1

/** ovs-vswitchd.conf.db(5), Interface.ingress_policing_rate and ingress_policing_burst. */
export function policingColumns(kbps: number): {
  readonly ingress_policing_rate: number
  readonly ingress_policing_burst: number
} {
  const burstKb = Math.min(Math.max(Math.ceil(kbps * burstS), minBurstKb), kbps * maxBurstS)
  return { ingress_policing_rate: kbps, ingress_policing_burst: burstKb }
}

/** What the policer of a device lets through; 0: all. */
export async function policedBitsPerSecond(kernel: Kernel, index: number, signal: AbortSignal): Promise<number> {
  return ((await kernel.getPolicer(index, signal))?.bytesPerSecond ?? 0) * 8
}

/** Whether the kernel polices a device as asked. */
export async function isPoliced(kernel: Kernel, index: number, kbps: number, signal: AbortSignal): Promise<boolean> {
  return (await policedBitsPerSecond(kernel, index, signal)) === kbps * 1e3
}

/** Has the record say `qos` and `policedKbps`, and ovs-vswitchd do the latter if the tap is on a bridge. */
export function recordPolicing(
  { instance, records }: PolicingGrounds,
  tap: TapRecord,
  { qos, policedKbps }: Pick<TapRecord, 'qos' | 'policedKbps'>,
): Part<void> {
  return {
    owns: [tap.name],
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      const kept = records.get(tap.name)
      if (kept === undefined || kept.record.id !== tap.id || kept.record.defunct) throw tapNotFound(tap.name)
      const marks = tapRecordMarks(instance, { ...kept.record, qos, policedKbps })
      transaction.setKeys('QoS', kept.uuid, 'external_ids', marks)
      setColumns(transaction, replica, tap.name, policedKbps)
      return () => undefined
    },
  }
}

function setColumns(transaction: OvsTransaction, replica: OvsReplica, name: string, kbps: number): void {
  const row = replica.find('Interface', 'name', name)
  if (row !== undefined) transaction.update('Interface', row._uuid, policingColumns(kbps))
}

/**
 * Returns when the kernel polices what comes from a tap on a bridge as its record says. Open vSwitch does not tell when it
 * could not (`Interface.error` stays empty), so the kernel is asked.
 * Errors: `unsupported` without the kernel's modules, those of a commit.
 */
export async function ensurePoliced(
  on: PolicingGrounds,
  { name, policedKbps }: TapRecord,
  index: number,
  call: Call,
): Promise<void> {
  refuseUserspace(on.ovsdb.replica, name)
  if (await isPoliced(on.kernel, index, policedKbps, call.signal)) return
  await refuseWithoutModule(on.kernel, name, call.signal)
  // ovs-vswitchd does not do again what it has done once: it has to see another value in between, whatever ends the call.
  const setTo = (kbps: number) => on.committer.commit(setting(name, kbps), { ...call, signal: on.lifetime })
  const [, receipt] = await raceAbort(Promise.all([setTo(0), setTo(policedKbps)]), call.signal)
  await on.committer.applied(receipt, call)
  if (await isPoliced(on.kernel, index, policedKbps, call.signal)) return
  throw notPoliced(name, 'act_police, cls_basic or sch_ingress', 'modprobe -a act_police cls_basic sch_ingress')
}

/** Throws `unsupported` where Open vSwitch would try in vain: it takes what was there away before it does. */
async function refuseWithoutModule(kernel: Kernel, name: string, signal: AbortSignal): Promise<void> {
  const { police, netAdmin } = await kernel.probe(signal)
  if (netAdmin && !police) throw notPoliced(name, 'act_police', 'modprobe act_police')
}

function notPoliced(name: string, lacking: string, remedy: string): BridgeError {
  return unsupported(`the kernel does not police what comes from ${name}: it lacks ${lacking}`, remedy)
}

/**
 * Throws `unsupported` for a limit that could not come into force: without the kernel's module, on the userspace datapath,
 * and for a detached tap where every bridge is of the userspace datapath.
 */
export async function refuseUnpoliceable(
  { kernel, ovsdb, datapathType }: Pick<PolicingGrounds, 'kernel' | 'ovsdb'> & { readonly datapathType: DatapathType },
  { name, bridge }: TapRecord,
  signal: AbortSignal,
): Promise<void> {
  const bridges = [...ovsdb.replica.rows('Bridge')]
  if (bridge !== undefined) refuseUserspace(ovsdb.replica, name)
  else if (datapathType === 'netdev' && bridges.every(row => row.datapath_type === 'netdev')) throw onUserspace(name)
  await refuseWithoutModule(kernel, name, signal)
}

/** Throws `unsupported` when a tap with a limit is to go where it would be without effect. */
export function refuseUnpoliced(policedKbps: number, name: string, bridge: OvsRows['Bridge']): void {
  if (policedKbps > 0 && bridge.datapath_type === 'netdev') throw onUserspace(name)
}

function setting(name: string, kbps: number): Part<void> {
  return {
    owns: [name],
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      setColumns(transaction, replica, name, kbps)
      return () => undefined
    },
  }
}

/** Throws `unsupported` for a tap on the userspace datapath: its packet sockets get the frames before the kernel polices them. */
function refuseUserspace(replica: OvsReplica, name: string): void {
  const port = portOfInterface(replica, name)
  if (port === undefined || bridgeOf(replica, port)?.datapath_type !== 'netdev') return
  throw onUserspace(name)
}

function onUserspace(name: string): BridgeError {
  const message = `what comes from ${name} cannot be policed: the userspace datapath takes it before the kernel would`
  return unsupported(message, 'a bridge of the kernel datapath (--datapath system), or no limit from the endpoint')
}
