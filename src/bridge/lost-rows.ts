import type { Call } from './call.js'
import type { Part } from './commit.js'
import type { Host } from './host.js'
import { removeMirrors } from './mirror.js'
import { isMirror } from './mirror-row.js'
import type { OvsReplica, OvsRows } from './ovs.js'
import { ownerOf, roleOf } from './ownership.js'
import { recordedTap } from './ownership-tap.js'
import { removePorts } from './remove-ports.js'

/** Rows of ours that no operation of ours would leave alone: somebody has removed what they belonged to. */
interface LostRows {
  /** Records of bonds, or second ones of a tap: QoS is a root table, so that nothing collects them. */
  readonly records: readonly OvsRows['QoS'][]
  /** Marked as taps' ports, and no tap has them. */
  readonly ports: readonly OvsRows['Port'][]
  /** To a port that is gone. */
  readonly mirrors: readonly OvsRows['Mirror'][]
}

function lostRows(host: Host, replica: OvsReplica): LostRows {
  const used = new Set([...replica.rows('Port')].map(port => port.qos))
  return {
    records: [...replica.rows('QoS')].filter(row => {
      if (ownerOf(row.external_ids) !== host.instance || used.has(row._uuid)) return false
      const tap = recordedTap(host.instance, row.external_ids)
      const kept = tap === undefined ? undefined : host.records.get(tap)
      // A record that cannot be read is left for whoever damaged it.
      return tap === undefined ? roleOf(row.external_ids) === 'bond' : kept !== undefined && kept.uuid !== row._uuid
    }),
    ports: [...replica.rows('Port')].filter(
      port =>
        ownerOf(port.external_ids) === host.instance &&
        roleOf(port.external_ids) === 'tap' &&
        port.qos === undefined &&
        host.records.get(port.name) === undefined,
    ),
    mirrors: [...replica.rows('Mirror')].filter(row => isMirror(host, row) && row.output_port === undefined),
  }
}

/** Removes rows of ours that have lost what they belonged to, in one transaction; answers with what they were. */
export async function removeLostRows(host: Host, call: Call): Promise<string[]> {
  const isNothing = ({ records, ports, mirrors }: LostRows) => records.length + ports.length + mirrors.length === 0
  if (isNothing(lostRows(host, host.ovsdb.replica))) return []
  const part: Part<string[]> = {
    owns: lostRows(host, host.ovsdb.replica).ports.map(port => port.name),
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      const { records, ports, mirrors } = lostRows(host, replica)
      removePorts(transaction, replica, ports)
      removeMirrors(transaction, replica, mirrors)
      for (const { _uuid } of records) transaction.delete('QoS', _uuid)
      const told = [
        ...records.map(row => `record ${recordedTap(host.instance, row.external_ids) ?? 'of a bond'}`),
        ...ports.map(port => `port ${port.name}`),
        ...mirrors.map(mirror => mirror.name),
      ]
      return () => told
    },
  }
  return await host.committer.commitApplied(part, call)
}
