import { createHash, randomBytes } from 'node:crypto'
import type { Call } from './call.js'
import type { OvsTransaction, Part } from './commit.js'
import type { Host } from './host.js'
import { managedBridge } from './inventory.js'
import { removeMirrors } from './mirror.js'
import { insertMirror } from './mirror-row.js'
import { type BridgeName, type PortName, parsePortName } from './names.js'
import type { OvsReplica, OvsRows } from './ovs.js'
import { isMirrorFor, mirrorMarks, ownerOf, portMarks, randomId, roleOf } from './ownership.js'
import { realised } from './realise.js'
import { removePorts } from './remove-ports.js'
import { committing, type UndoStep } from './undo.js'

/**
 * The port by which a bridge is captured: an internal port that a mirror hands each forwarded frame, once and with its tag.
 * It is nobody's tap, and is listed nowhere.
 */

/** The most that a tap device takes. The kernel's datapath loses frames that are longer than the port's MTU. */
const mtuBytes = 65_521

/** Names of the ports by which bridges are being captured, from before they are made until they are gone. */
export type CapturePorts = Set<string>

/** Makes port and mirror in one transaction, and returns with the port's name when it receives frames. */
export async function createCapturePort(
  host: Host,
  ports: CapturePorts,
  bridge: BridgeName,
  call: Call,
  undo: (step: UndoStep) => void,
): Promise<PortName> {
  const name = capturePortName(host.instance)
  const id = randomId()
  ports.add(name)
  undo(async () => ports.delete(name))
  const receipt = await committing(host, insertion(host, bridge, name, id), call, undo, (transaction, replica) =>
    removeCapture(host, transaction, replica, name),
  )
  await host.committer.applied(receipt, call)
  // Before it comes up, or the host would say hello to the bridge.
  if ((await host.kernel.getLink(name, call.signal)) !== undefined) {
    await host.kernel.setLink(name, { silent: true }, call.signal)
    await host.kernel.setLink(name, { up: true }, call.signal)
  }
  await realised(host, receipt, [{ name, ifindex: undefined, isRaised: true }], call)
  return name
}

/**
 * Whether a device has a name as those of these ports of the instance. Its maker is ovs-vswitchd, and whoever asked for it may
 * have been killed before it got an alias: so the name says whose it is.
 */
export function isCaptureDevice(instance: string, name: string): boolean {
  return name === spell(instance, name.slice(4, 10))
}

function capturePortName(instance: string): PortName {
  const name = parsePortName(spell(instance, randomBytes(3).toString('hex')))
  if (!name.ok) throw new Error(name.reason)
  return name.value
}

function spell(instance: string, random: string): string {
  return `cap-${random}${createHash('sha256').update(`${instance}\0${random}`).digest('hex').slice(0, 4)}`
}

function insertion(host: Host, bridge: BridgeName, name: PortName, id: string): Part<void> {
  return {
    owns: [name],
    needs: [bridge],
    reconfigures: true,
    write: transaction => {
      const row = managedBridge(host, bridge)
      const iface = transaction.insert('Interface', { name, type: 'internal', mtu_request: mtuBytes })
      const port = transaction.insert('Port', {
        name,
        interfaces: [iface],
        external_ids: portMarks(host.instance, 'capture'),
      })
      insertMirror(transaction, row, {
        name: mirrorPrefix + name,
        select_all: true,
        output_port: port,
        external_ids: mirrorMarks(host.instance, 'capture', id),
      })
      transaction.mutate('Bridge', row._uuid, 'ports', 'insert', [port])
      return () => undefined
    },
  }
}

/**
 * Removes port and mirror, and returns when ovs-vswitchd has dropped them. What is gone already is no hindrance. What a
 * failure leaves is nobody's, and goes when the database is back.
 */
export async function removeCapturePort(host: Host, ports: CapturePorts, name: string, call: Call): Promise<void> {
  try {
    await removePortsNamed(host, [name], call)
  } finally {
    ports.delete(name)
  }
}

async function removePortsNamed(host: Host, names: readonly string[], call: Call): Promise<void> {
  if (names.length === 0) return
  const part: Part<void> = {
    owns: names,
    needs: [],
    reconfigures: true,
    write: (transaction, replica) => {
      for (const name of names) removeCapture(host, transaction, replica, name)
      return () => undefined
    },
  }
  await host.committer.commitApplied(part, call)
}

function removeCapture(host: Host, transaction: OvsTransaction, replica: OvsReplica, name: string): void {
  const port = replica.find('Port', 'name', name)
  const isOf = (mirror: OvsRows['Mirror']) => portOfMirror(host, mirror) === name
  removeMirrors(transaction, replica, [...replica.rows('Mirror')].filter(isOf))
  if (port !== undefined && isCapturePort(host, port)) removePorts(transaction, replica, [port])
}

const mirrorPrefix = 'capture-'

/** Name of the port that a mirror hands a capture its frames by, as long as it is there; undefined for every other mirror. */
function portOfMirror(host: Host, { name, external_ids }: OvsRows['Mirror']): string | undefined {
  if (!isMirrorFor(host.instance, 'capture', external_ids) || !name.startsWith(mirrorPrefix)) return undefined
  return name.slice(mirrorPrefix.length)
}

/** Whether a port is one by which we capture a bridge. */
function isCapturePort(host: Host, port: OvsRows['Port']): boolean {
  return ownerOf(port.external_ids) === host.instance && roleOf(port.external_ids) === 'capture'
}

/**
 * Removes the ports and mirrors of captures that have ended, with an earlier run or without the database; the names of the
 * ports. Somebody may have removed the port alone.
 */
export async function removeLeftCapturePorts(host: Host, ports: CapturePorts, call: Call): Promise<string[]> {
  const { replica } = host.ovsdb
  const there = [...replica.rows('Port')].filter(port => isCapturePort(host, port)).map(port => port.name)
  const mirrored = [...replica.rows('Mirror')].flatMap(mirror => portOfMirror(host, mirror) ?? [])
  const left = [...new Set([...there, ...mirrored])].filter(name => !ports.has(name))
  await removePortsNamed(host, left, call)
  return left
}
