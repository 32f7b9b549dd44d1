import type { Call } from './call.js'
import type { Part } from './commit.js'
import type { Host } from './host.js'
import { managedBridge, refuseTaken } from './inventory.js'
import type { BridgeName, PortName } from './names.js'
import { bridgeOf, type OvsRows } from './ovs.js'
import { idOf, randomId, type UplinkRole, uplinkMarks, uplinkRoleOf } from './ownership.js'
import type { BridgeError } from './problem.js'
import { realised } from './realise.js'
import { removePorts } from './remove-ports.js'
import { committing, undoingOnFailure } from './undo.js'

/** A port of ours that leads out of the bridge and is no tap. */
export interface Uplink {
  readonly name: PortName
  readonly role: UplinkRole
  readonly bridge: BridgeName
  readonly port: Partial<Pick<OvsRows['Port'], 'trunks'>>
  readonly interface: Pick<OvsRows['Interface'], 'type'> & Partial<Pick<OvsRows['Interface'], 'options'>>
  /** The kernel's index of its device; undefined when Open vSwitch needs none. */
  readonly ifindex: number | undefined
}

/** What else has to be so while an uplink is added. */
export interface UplinkTerms {
  /** Names, beside its own, that nobody else may take meanwhile. */
  readonly claims: readonly string[]
  /** Throws what is against it; runs when the transaction is planned. */
  readonly refuse: () => void
}

/**
 * Puts an uplink on its bridge, and returns when it works. Errors: `not-found` bridge, `already-exists` name,
 * `not-realised`, those of a commit; it is then taken back.
 */
export async function addUplink(host: Host, uplink: Uplink, terms: UplinkTerms, call: Call): Promise<void> {
  const { name, ifindex } = uplink
  const id = randomId()
  await undoingOnFailure(host, call, async undo => {
    const receipt = await committing(host, insertion(host, uplink, terms, id), call, undo, (transaction, replica) => {
      const port = replica.find('Port', 'name', name)
      if (port !== undefined && idOf(port.external_ids) === id) removePorts(transaction, replica, [port])
    })
    await realised(host, receipt, [{ name, ifindex }], call)
  })
}

function insertion(host: Host, uplink: Uplink, terms: UplinkTerms, id: string): Part<void> {
  const { name, bridge, role } = uplink
  return {
    owns: [name, ...terms.claims],
    needs: [bridge],
    reconfigures: true,
    write: transaction => {
      const row = managedBridge(host, bridge)
      refuseTaken(host, name)
      terms.refuse()
      const iface = transaction.insert('Interface', { name, ...uplink.interface })
      const external_ids = uplinkMarks(host.instance, role, id)
      const port = transaction.insert('Port', { name, interfaces: [iface], ...uplink.port, external_ids })
      transaction.mutate('Bridge', row._uuid, 'ports', 'insert', [port])
      return () => undefined
    },
  }
}

/**
 * Takes an uplink of ours off its bridge, and returns when ovs-vswitchd has dropped it.
 * Errors: `not-found` bridge; `missing` when the bridge has no such uplink of ours; those of a commit.
 */
export async function removeUplink(
  host: Host,
  uplink: Pick<Uplink, 'name' | 'role' | 'bridge'>,
  missing: () => BridgeError,
  call: Call,
): Promise<void> {
  const { name, bridge } = uplink
  const part: Part<void> = {
    owns: [name],
    needs: [bridge],
    reconfigures: true,
    write: (transaction, replica) => {
      const { _uuid } = managedBridge(host, bridge)
      const port = replica.find('Port', 'name', name)
      const isThere = port !== undefined && bridgeOf(replica, port)?._uuid === _uuid
      if (!isThere || uplinkRoleOf(host.instance, port.external_ids) !== uplink.role) throw missing()
      removePorts(transaction, replica, [port])
      return () => undefined
    },
  }
  await host.committer.commitApplied(part, call)
}
