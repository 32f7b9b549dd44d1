import type { Link } from '../kernel/index.js'
import type { Call } from './call.js'
import type { Part } from './commit.js'
import type { Host } from './host.js'
import type { PortName } from './names.js'
import { rootOf } from './ovs.js'
import { type TapRecord, tapRecordMarks } from './ownership-tap.js'
import { policedBitsPerSecond, recordPolicing, refuseUnpoliceable } from './policing.js'
import { BridgeError, invalid, notOwned, tapNotFound, unsupported } from './problem.js'
import { delayMissing, fieldsMissingDelay, isPlain, noQos, type Qos, type QosChange } from './qos-parse.js'
import { qdiscOf, qosOf } from './qos-qdisc.js'
import { recordOf } from './tap-changes.js'
import { committing, undoingOnFailure } from './undo.js'

/** One direction of a tap's link, wanted and real. */
export interface LinkQos {
  readonly wanted: Qos
  /** What the kernel does, whoever set it. */
  readonly actual: Qos
}

/** The QoS of a tap. */
export interface TapQos {
  readonly tap: PortName
  readonly toEndpoint: LinkQos
  /** A rate is all that there can be. */
  readonly fromEndpoint: LinkQos
  /** How often it was put back in this run. */
  readonly timesRestored: number
}

/** Errors: `not-found`. */
export async function getQos(host: Host, name: PortName, call: Call): Promise<TapQos> {
  const record = recordOf(host, name)
  const link = await host.kernel.getLink(name, call.signal)
  const qdisc = link && (await host.kernel.getQdisc(link.index, call.signal))
  const policed = link === undefined ? 0 : await policedBitsPerSecond(host.kernel, link.index, call.signal)
  return {
    tap: record.name,
    toEndpoint: { wanted: record.qos, actual: qdisc?.spec === undefined ? noQos : qosOf(qdisc.spec) },
    fromEndpoint: { wanted: rateOnly(record.policedKbps * 1e3), actual: rateOnly(policed) },
    timesRestored: host.qos.timesRestored(name),
  }
}

function rateOnly(bitsPerSecond: number): Qos {
  return { ...noQos, bitsPerSecond }
}

/**
 * Changes the QoS of a tap towards its endpoint; with `replace`, what the change does not name is taken away.
 *
 * The kernel comes first and the record second: after a crash in between, the start puts back what was acknowledged last.
 * Without a device it is recorded, and in force once there is one.
 * Errors: `not-found` tap, `invalid` for what makes no sense together, `unsupported` for a host tap and without the kernel's
 * module, `not-owned` for an adopted device with a qdisc of its owner's, those of a commit; the former QoS is then in force.
 */
export async function updateQos(
  host: Host,
  name: PortName,
  change: QosChange,
  replace: boolean,
  call: Call,
): Promise<TapQos> {
  await host.qos.exclusive(name, call.signal, async () => {
    const record = recordOf(host, name)
    refuseHostTap(record)
    const qos = { ...(replace ? noQos : record.qos), ...change }
    refuseSenseless(qos)
    await putAndRecord(host, record, qos, call, () => host.committer.commit(recording(host, record, qos), call))
  })
  return await getQos(host, name, call)
}

/**
 * Limits what comes from the endpoint of a tap; 0 takes the limit away. On a detached tap, and without a device, it is in
 * force once there is a port; a detached tap with a limit cannot be put on a bridge of the userspace datapath.
 *
 * Errors: `not-found` tap, `unsupported` for a host tap, on the userspace datapath and without the kernel's modules, those
 * of a commit; the former limit is then in force.
 */
export async function policeTap(host: Host, name: PortName, kbps: number, call: Call): Promise<TapQos> {
  await host.qos.exclusive(name, call.signal, async () => {
    const record = recordOf(host, name)
    refuseHostTap(record)
    if (kbps > 0) await refuseUnpoliceable(host, record, call.signal)
    if (kbps > 0 || record.policedKbps > 0) await police(host, { ...record, policedKbps: kbps }, call)
  })
  return await getQos(host, name, call)
}

/** Makes a tap's link plain again, both ways at once. Errors: those of {@link updateQos} and {@link policeTap}. */
export async function removeQos(host: Host, name: PortName, call: Call): Promise<TapQos> {
  await host.qos.exclusive(name, call.signal, async () => {
    const record = recordOf(host, name)
    refuseHostTap(record)
    await putAndRecord(host, record, noQos, call, async () => {
      if (record.policedKbps > 0) await police(host, { ...record, qos: noQos, policedKbps: 0 }, call)
      else await host.committer.commit(recording(host, record, noQos), call)
    })
  })
  return await getQos(host, name, call)
}

/** Records both of `after`, and has the limit in force. */
async function police(host: Host, after: TapRecord, call: Call): Promise<void> {
  const before = recordOf(host, after.name)
  const link = await host.kernel.getLink(after.name, call.signal)
  // Nobody else takes it off a detached device: after a crash in between the record still says that it may be there.
  if (link !== undefined && after.policedKbps === 0 && after.bridge === undefined) {
    await host.kernel.removeIngressQdisc(link.index, call.signal)
  }
  await undoingOnFailure(host, call, async undo => {
    // Runs last: the former limit is in force when the refusal is told.
    undo(() => ovsApplied(host))
    const part = recordPolicing(host, after, after)
    const receipt = await committing(host, part, call, undo, (transaction, replica) => {
      const now = host.records.get(after.name)?.record
      if (now?.id === after.id && now.policedKbps === after.policedKbps) {
        recordPolicing(host, after, before).write(transaction, replica)
      }
    })
    await host.committer.applied(receipt, call)
    if (link === undefined) host.qos.putLater(after.name, after.qos, after.policedKbps)
    else await host.qos.police(link, after, call)
  })
}

/** Resolves when ovs-vswitchd has applied all that is committed by now. */
async function ovsApplied(host: Host): Promise<void> {
  const epoch = BigInt(rootOf(host.ovsdb.replica)?.next_cfg ?? 0)
  await host.committer.applied({ result: undefined, epoch }, { signal: host.lifetime, caller: 'undo' })
}

async function putAndRecord(
  host: Host,
  record: TapRecord,
  qos: Qos,
  call: Call,
  commit: () => Promise<unknown>,
): Promise<void> {
  const link = await host.kernel.getLink(record.name, call.signal)
  if (!isPlain(qos))
    await (link === undefined ? refuseUnsupported(host, qos, call) : refuseOwnersQdisc(host, record, link, call))
  try {
    if (link === undefined) host.qos.putLater(record.name, qos, record.policedKbps)
    else await host.qos.put(link, qos, call.signal)
    await commit()
  } catch (error) {
    await host.qos.settle(record.name)
    throw error
  }
}

/** Without a device there is none that could refuse it. The MTU tells nothing of the kind. */
async function refuseUnsupported({ kernel }: Host, qos: Qos, call: Call): Promise<void> {
  const facts = await kernel.probe(call.signal)
  const kind = qdiscOf(qos, 1_500)?.kind ?? 'tbf'
  if (!facts.netAdmin || facts[kind]) return
  const message = `the kernel has no qdisc ${kind}: the module sch_${kind} is missing`
  throw unsupported(message, `modprobe sch_${kind}`)
}

/** The qdisc that the owner of an adopted device has set is not ours to take: it could not be given back as it was. */
async function refuseOwnersQdisc(host: Host, { name, backing, qos }: TapRecord, link: Link, call: Call): Promise<void> {
  if (backing.kind !== 'adopted' || !isPlain(qos)) return
  const found = await host.kernel.getQdisc(link.index, call.signal)
  if (found === undefined || found.ours || found.isDefault) return
  throw notOwned(
    name,
    `has a qdisc of its owner's, ${found.kind}; take that away first (tc qdisc del dev ${name} root)`,
  )
}

function recording(host: Host, { name, id }: TapRecord, qos: Qos): Part<void> {
  return {
    owns: [name],
    needs: [],
    reconfigures: false,
    write: transaction => {
      const kept = host.records.get(name)
      if (kept === undefined || kept.record.id !== id || kept.record.defunct) throw tapNotFound(name)
      const marks = tapRecordMarks(host.instance, { ...kept.record, qos })
      transaction.setKeys('QoS', kept.uuid, 'external_ids', marks)
      return () => undefined
    },
  }
}

function refuseHostTap({ name, backing }: TapRecord): void {
  if (backing.kind !== 'host') return
  const message = `${name} is a host tap: its endpoint is this host, and there is no link to it that could be emulated`
  throw new BridgeError({ kind: 'unsupported', reason: 'UNSUPPORTED', message })
}

function refuseSenseless(qos: Qos): void {
  const fields = fieldsMissingDelay(qos)
  if (fields.length > 0) throw invalid(fields.map(field => ({ field: `qos.${field}`, description: delayMissing })))
}
