import { randomInt } from 'node:crypto'
import type { Call } from './call.js'
import type { Part } from './commit.js'
import type { Host } from './host.js'
import type { OvsReplica, OvsRows } from './ovs.js'
import { ownerOf, roleOf, uplinkRoleOf } from './ownership.js'
import type { Attempt } from './recovered.js'

/**
 * Whether ovs-vswitchd has opened an interface and has no OpenFlow port for it ("added interface … on port 65535"): nothing
 * passes, it tells no error, and it never looks again. docs/adr/0028-a-half-open-port-is-opened-anew.md says how that comes.
 */
export function isHalfOpen({ ofport, error }: Pick<OvsRows['Interface'], 'ofport' | 'error'>): boolean {
  return ofport === -1 && (error === undefined || error === '')
}

/**
 * Has ovs-vswitchd go over all its ports, and close and open those of the interfaces that are half open; returns when it has.
 * It opens a port anew that asks for another number (ovs-vswitchd.conf.db(5), Interface.ofport_request).
 */
export async function reopen(host: Host, names: readonly string[], call: Call): Promise<void> {
  const asking: Part<void> = {
    owns: [],
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      const free = freeOfports(replica)
      for (const name of names) {
        const row = replica.find('Interface', 'name', name)
        if (row === undefined || !isHalfOpen(row)) continue
        transaction.update('Interface', row._uuid, { ofport_request: free.next().value })
      }
      return () => undefined
    },
  }
  await host.committer.commitApplied(asking, call)
}

/**
 * Has the half-open ports of our taps and trunks opened anew, whose calls may have ended with their run before they saw to it. A
 * tunnel has no device that could be taken for another. Those of host taps have another device then, and it is down.
 */
export async function reopenOwn(host: Host, call: Call): Promise<Attempt> {
  const halfOpen = ownHalfOpen(host)
  if (halfOpen.length > 0) await reopen(host, halfOpen, call)
  const isOpen = (name: string) => Number(host.ovsdb.replica.find('Interface', 'name', name)?.ofport) > 0
  return { repaired: halfOpen.filter(isOpen), left: ownHalfOpen(host) }
}

/** Names of interfaces. */
function ownHalfOpen(host: Host): string[] {
  const { replica } = host.ovsdb
  const interfaces = [...replica.rows('Port')].flatMap(port => (isReopened(host, port) ? port.interfaces : []))
  return interfaces.flatMap(uuid => {
    const row = replica.get('Interface', uuid)
    const isDefunct = row !== undefined && host.records.get(row.name)?.record.defunct === true
    return row !== undefined && !isDefunct && isHalfOpen(row) ? [row.name] : []
  })
}

/** A bond's interfaces are taps. */
function isReopened({ instance }: Host, { external_ids }: OvsRows['Port']): boolean {
  if (uplinkRoleOf(instance, external_ids) === 'trunk') return true
  const role = ownerOf(external_ids) === instance ? roleOf(external_ids) : undefined
  return role === 'tap' || role === 'bond'
}

/** Numbers that no interface has. ovs-vswitchd counts up from 1: the upper half is where it comes last. */
function* freeOfports(replica: OvsReplica): Generator<number, never> {
  const taken = new Set([...replica.rows('Interface')].map(({ ofport }) => Number(ofport)))
  for (;;) {
    const ofport = randomInt(0x8000, 0xff00)
    if (taken.has(ofport)) continue
    taken.add(ofport)
    yield ofport
  }
}
