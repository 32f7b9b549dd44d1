import { abortedBy, abortScope } from '../lib/abort.js'
import type { Call } from './call.js'
import type { Part, Receipt } from './commit.js'
import type { Host } from './host.js'
import type { OvsReplica, OvsRows } from './ovs.js'
import { BridgeError } from './problem.js'

/** An interface that is to work. `ifindex` is the kernel's, so that a dead device under the row does not count. */
export interface Expected {
  readonly name: string
  /** undefined: Open vSwitch makes the device itself. */
  readonly ifindex: number | undefined
}

/**
 * How long faults may stand after ovs-vswitchd has applied the change, before it is asked to look again: its first word is
 * not its last. It may have missed a device that came at the same moment, and it writes `ifindex` a little later.
 */
const gracesMs = [1_000, 2_000, 3_000]

/**
 * Resolves when ovs-vswitchd has applied the receipt and each interface has an OpenFlow port, no error, and the kernel's
 * own device. Errors: the call's deadline or cancellation; `not-realised` with what Open vSwitch says.
 */
export async function realised(
  host: Host,
  receipt: Receipt<unknown>,
  interfaces: readonly Expected[],
  call: Call,
): Promise<void> {
  await host.committer.applied(receipt, call)
  for (const graceMs of gracesMs) {
    if (await areFaultless(host, interfaces, graceMs, call)) return
    if (interfaces.some(({ name }) => host.ovsdb.replica.find('Interface', 'name', name) === undefined)) break
    await host.committer.applied(await host.committer.commit(nothing, call), call)
  }
  if (!(await areFaultless(host, interfaces, 0, call))) throw notRealised(host, interfaces)
}

/** Changes nothing; ovs-vswitchd goes over all its ports all the same, and tries again those that it could not open. */
const nothing: Part<void> = { owns: [], needs: [], reconfigures: true, write: () => () => undefined }

async function areFaultless(
  host: Host,
  interfaces: readonly Expected[],
  graceMs: number,
  call: Call,
): Promise<boolean> {
  using grace = abortScope({ deadline: Date.now() + graceMs, parents: [call.signal] })
  const isFaultless = (replica: OvsReplica) => interfaces.every(expected => faultOf(replica, expected) === undefined)
  try {
    return await host.ovsdb.waitFor(replica => isFaultless(replica) || undefined, grace.signal)
  } catch (error) {
    if (call.signal.aborted || abortedBy(error, grace.signal) === undefined) throw error
    return isFaultless(host.ovsdb.replica)
  }
}

function notRealised(host: Host, interfaces: readonly Expected[]): BridgeError {
  const faults = interfaces.flatMap(expected => {
    const fault = faultOf(host.ovsdb.replica, expected)
    return fault === undefined ? [] : [`${expected.name}: ${fault}`]
  })
  const more = faults.length > 3 ? ` and ${faults.length - 3} more` : ''
  const message = `Open vSwitch could not realise ${faults.slice(0, 3).join('; ')}${more}`
  return new BridgeError({ kind: 'not-realised', reason: 'NOT_REALISED', message })
}

function faultOf(replica: OvsReplica, expected: Expected): string | undefined {
  const row = replica.find('Interface', 'name', expected.name)
  if (row === undefined) return 'its interface is gone from the database'
  if (row.error !== undefined && row.error !== '') return row.error
  return faultOfPort(row, expected)
}

function faultOfPort(row: OvsRows['Interface'], expected: Expected): string | undefined {
  if (row.ofport === undefined) return 'it has no OpenFlow port; the bridge itself may have failed'
  if (row.ofport === -1) return 'it could not be opened'
  if (row.ifindex === undefined) return 'its device is not there'
  if (expected.ifindex !== undefined && row.ifindex !== expected.ifindex) return 'another device is open under its name'
  return undefined
}
