import type { Call } from './call.js'
import type { Part } from './commit.js'
import type { Host } from './host.js'
import type { PortName } from './names.js'
import { type TapRecord, writeTapRecord } from './ownership.js'
import { BridgeError, deviceNotFound, invalid, tapNotFound } from './problem.js'
import { delayMissing, fieldsMissingDelay, noQos, type Qos, type QosChange } from './qos-parse.js'
import { qosOf } from './qos-qdisc.js'

/** The QoS of a tap towards its endpoint, wanted and real. */
export interface TapQos {
  readonly tap: PortName
  readonly wanted: Qos
  /** What the kernel does, whoever set it. */
  readonly actual: Qos
  /** How often it was put back in this run. */
  readonly timesRestored: number
}

/** Errors: `not-found`. */
export async function getQos(host: Host, name: PortName, call: Call): Promise<TapQos> {
  const record = recordOf(host, name)
  const link = await host.kernel.getLink(name, call.signal)
  const qdisc = link && (await host.kernel.getQdisc(link.index, call.signal))
  const actual = qdisc?.spec === undefined ? noQos : qosOf(qdisc.spec)
  return { tap: record.name, wanted: record.qos, actual, timesRestored: host.qos.timesRestored(name) }
}

/**
 * Changes the QoS of a tap; with `replace`, what the change does not name is taken away.
 *
 * The kernel comes first and the record second: after a crash in between, the start puts back what was acknowledged last.
 * Errors: `not-found` tap or device, `invalid` for what makes no sense together, `unsupported` for a host tap and without
 * the kernel's module, those of a commit; the former QoS is then in force.
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
    await putAndRecord(host, record, qos, call)
  })
  return await getQos(host, name, call)
}

async function putAndRecord(host: Host, record: TapRecord, qos: Qos, call: Call): Promise<void> {
  const link = await host.kernel.getLink(record.name, call.signal)
  if (link === undefined) throw deviceNotFound(record.name)
  try {
    await host.qos.put(link, qos, call.signal)
    await host.committer.commit(recording(host, record, qos), call)
  } catch (error) {
    await host.qos.put(link, record.qos, host.lifetime).catch((failed: unknown) => {
      host.notice('error', 'the former QoS of a tap could not be put back', { tap: record.name, error: failed })
    })
    throw error
  }
}

function recording(host: Host, { name, id }: TapRecord, qos: Qos): Part<void> {
  return {
    owns: [name],
    needs: [],
    reconfigures: false,
    write: transaction => {
      const kept = host.records.get(name)
      if (kept === undefined || kept.record.id !== id || kept.record.defunct) throw tapNotFound(name)
      transaction.update('QoS', kept.uuid, { external_ids: writeTapRecord(host.instance, { ...kept.record, qos }) })
      return () => undefined
    },
  }
}

function recordOf(host: Host, name: PortName): TapRecord {
  const record = host.records.get(name)?.record
  if (record === undefined || record.defunct) throw tapNotFound(name)
  return record
}

function refuseHostTap({ name, backing }: TapRecord): void {
  if (backing.kind !== 'host') return
  const message = `${name} is a host tap: its device has no queue towards its endpoint, which is this host`
  throw new BridgeError({ kind: 'unsupported', reason: 'UNSUPPORTED', message })
}

function refuseSenseless(qos: Qos): void {
  const fields = fieldsMissingDelay(qos)
  if (fields.length > 0) throw invalid(fields.map(field => ({ field: `qos.${field}`, description: delayMissing })))
}
