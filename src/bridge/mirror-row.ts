import { elementsOf } from '../ovsdb/index.js'
import type { OvsTransaction } from './commit.js'
import type { Host } from './host.js'
import type { OvsReplica, OvsRows } from './ovs.js'
import { isMirrorFor } from './ownership.js'
import { exhausted, inUse } from './problem.js'

const namePrefix = 'mirror-'

/** Name of the row of a mirror that hands its copies to this tap. */
export function mirrorName(destination: string): string {
  return namePrefix + destination
}

/** Whether a row is a mirror that somebody asked us for. */
export function isMirror(host: Host, row: OvsRows['Mirror']): boolean {
  return isMirrorFor(host.instance, 'mirror', row.external_ids) && row.name.startsWith(namePrefix)
}

/** The bridge that a mirror belongs to. */
export function bridgeOfMirror(replica: OvsReplica, mirror: OvsRows['Mirror']): OvsRows['Bridge'] | undefined {
  for (const bridge of replica.referrers('Bridge', 'mirrors', mirror._uuid)) return bridge
  return undefined
}

/** MAX_MIRRORS of Open vSwitch. ovs-vswitchd leaves out what is more, and only its log says so. */
const maxMirrors = 32

/** Puts a mirror on a bridge. Throws `exhausted` when the bridge has as many, of anybody, as it can. */
export function insertMirror(
  transaction: OvsTransaction,
  bridge: Pick<OvsRows['Bridge'], '_uuid' | 'name' | 'mirrors'>,
  columns: Parameters<typeof transaction.insert<'Mirror'>>[1],
): void {
  if (mirrorsAfter(transaction, bridge) >= maxMirrors) {
    throw exhausted(
      `${bridge.name} has ${maxMirrors} mirrors, one of them for each capture; Open vSwitch takes no more`,
    )
  }
  const mirror = transaction.insert('Mirror', columns)
  transaction.mutate('Bridge', bridge._uuid, 'mirrors', 'insert', [mirror])
}

/** How many a bridge has after what the transaction holds so far: the caller, and others, may have put on and taken off some. */
function mirrorsAfter(
  { operations }: OvsTransaction,
  { _uuid, mirrors }: Pick<OvsRows['Bridge'], '_uuid' | 'mirrors'>,
): number {
  const mutations = operations.flatMap(step => (step.op === 'mutate' && step.target === _uuid ? step.mutations : []))
  const changes = mutations.filter(([column]) => column === 'mirrors')
  const operandsOf = (mutator: string) => changes.flatMap(([, name, operand]) => (name === mutator ? [operand] : []))
  const added = operandsOf('insert').flatMap(elementsOf)
  const deleted = JSON.stringify(operandsOf('delete'))
  return mirrors.filter(uuid => !deleted.includes(uuid)).length + added.length
}

/** The taps on a bridge that are handed copies, sorted. A mirror that has lost its port to somebody else is none. */
export function mirrorDestinations(host: Host, bridge: OvsRows['Bridge']): string[] {
  const rows = bridge.mirrors.flatMap(uuid => host.ovsdb.replica.get('Mirror', uuid) ?? [])
  const live = rows.filter(row => isMirror(host, row) && row.output_port !== undefined)
  return live.map(row => row.name.slice(namePrefix.length)).sort()
}

/** Mirrors of anybody that hand their copies to this port. */
export function mirrorsTo(replica: OvsReplica, port: OvsRows['Port']): OvsRows['Mirror'][] {
  return [...replica.referrers('Mirror', 'output_port', port._uuid)]
}

/** Mirrors of anybody that copy this port's frames alone. */
export function mirrorsFrom(replica: OvsReplica, port: OvsRows['Port']): OvsRows['Mirror'][] {
  const columns = ['select_src_port', 'select_dst_port'] as const
  return [...new Set(columns.flatMap(column => [...replica.referrers('Mirror', column, port._uuid)]))]
}

/** Throws `in-use` for a tap that a mirror of ours holds: with `atEither` end, or only at the receiving one. */
export function refuseMirrored(host: Host, tap: string, atEither: boolean): void {
  const { replica } = host.ovsdb
  const port = replica.find('Port', 'name', tap)
  if (port === undefined) return
  const isOurs = (row: OvsRows['Mirror']) => isMirror(host, row)
  if (mirrorsTo(replica, port).some(isOurs)) throw inUse(tap, 'IN_MIRROR', 'the destination of a mirror')
  if (atEither && mirrorsFrom(replica, port).some(isOurs)) throw inUse(tap, 'IN_MIRROR', 'the source of a mirror')
}
