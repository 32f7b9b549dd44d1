import { abortedBy, abortScope } from '../lib/abort.js'
import type { Call } from './call.js'
import type { Part, Receipt } from './commit.js'
import type { Host } from './host.js'
import type { OvsReplica, OvsRows } from './ovs.js'
import { BridgeError } from './problem.js'
import { isHalfOpen, reopen } from './reopen.js'

/** An interface that is to work. `ifindex` is the kernel's, so that a dead device under the row does not count. */
export interface Expected {
  readonly name: string
  /** undefined: Open vSwitch makes the device itself, and which one that is does not matter. */
  readonly ifindex: number | undefined
  /** The index by now, of a device that Open vSwitch makes: it may have made it anew since. */
  readonly lookAgain?: () => Promise<number | undefined>
  /**
   * We have brought its device up after Open vSwitch made it: the userspace datapath drops what is for it until ovs-vswitchd
   * has heard of that.
   */
  readonly isRaised?: boolean
  /** Whether another call has taken it away since: it need not work any more. */
  readonly isSuperseded?: () => boolean
}

/**
 * How long failures may stand after ovs-vswitchd has applied the change, before it is asked to look again: its first word
 * is not its last. It may have missed a device that came at the same moment, or have opened it by half.
 */
const gracesMs = [1_000, 1_000]

/**
 * Resolves when ovs-vswitchd has applied the receipt and each interface has an OpenFlow port, no error, and the kernel's
 * own device. Errors: the call's deadline or cancellation; `not-realised` with what Open vSwitch says; `busy` when somebody
 * has taken an interface out of the database meanwhile.
 */
export async function realised(
  host: Host,
  receipt: Receipt<unknown>,
  expected: readonly Expected[],
  call: Call,
): Promise<void> {
  await host.committer.applied(receipt, call)
  let interfaces = expected
  for (const graceMs of gracesMs) {
    if (await haveSucceeded(host, interfaces, graceMs, call)) return
    await reopen(
      host,
      interfaces.map(({ name }) => name),
      call,
    )
    interfaces = await lookAgain(host, interfaces)
  }
  if (!(await haveSucceeded(host, interfaces, 0, call))) throw notRealised(host, interfaces)
}

/** Looks at the devices of those that have failed; at the others it would only make ovs-vswitchd busy. */
async function lookAgain(host: Host, interfaces: readonly Expected[]): Promise<readonly Expected[]> {
  const now: Expected[] = []
  for (const expected of interfaces) {
    const isLookedAt = expected.lookAgain !== undefined && fateOf(host.ovsdb.replica, expected).kind === 'failed'
    now.push(isLookedAt ? { ...expected, ifindex: await expected.lookAgain() } : expected)
  }
  return now
}

/**
 * Changes nothing, and returns when ovs-vswitchd has gone over all its ports all the same: it has tried again those that it
 * could not open, and has dropped what is no longer in the database.
 */
export async function reconfigure(host: Host, call: Call): Promise<void> {
  const nothing: Part<void> = { owns: [], needs: [], reconfigures: true, write: () => () => undefined }
  await host.committer.commitApplied(nothing, call)
}

/** Waits until all work; false when some have failed and `graceMs` have passed. What is merely not told yet has the call's time. */
async function haveSucceeded(
  host: Host,
  interfaces: readonly Expected[],
  graceMs: number,
  call: Call,
): Promise<boolean> {
  if (progressOf(host.ovsdb.replica, interfaces) === 'done') return true
  using grace = abortScope({ deadline: Date.now() + graceMs, parents: [call.signal] })
  try {
    return await host.ovsdb.waitFor(replica => progressOf(replica, interfaces) === 'done' || undefined, grace.signal)
  } catch (error) {
    if (call.signal.aborted || abortedBy(error, grace.signal) === undefined) throw error
  }
  return await host.ovsdb.waitFor(replica => {
    const progress = progressOf(replica, interfaces)
    return progress === 'awaited' ? undefined : progress === 'done'
  }, call.signal)
}

/** What ovs-vswitchd has made of an interface. */
type Fate =
  | { readonly kind: 'works' }
  /** It has an OpenFlow port, and ovs-vswitchd has not told yet which device it has opened, its MTU, or that it is up. */
  | { readonly kind: 'awaited' }
  | { readonly kind: 'failed'; readonly why: string }

/** Throws `busy` when one is gone. */
function progressOf(replica: OvsReplica, interfaces: readonly Expected[]): 'done' | 'awaited' | 'failed' {
  const kinds = new Set(interfaces.map(expected => fateOf(replica, expected).kind))
  if (kinds.has('failed')) return 'failed'
  return kinds.has('awaited') ? 'awaited' : 'done'
}

function notRealised(host: Host, interfaces: readonly Expected[]): BridgeError {
  const faults = interfaces.flatMap(expected => {
    const fate = fateOf(host.ovsdb.replica, expected)
    return fate.kind === 'failed' ? [`${expected.name}: ${fate.why}`] : []
  })
  const more = faults.length > 3 ? ` and ${faults.length - 3} more` : ''
  const message = `Open vSwitch could not realise ${faults.slice(0, 3).join('; ')}${more}`
  return new BridgeError({ kind: 'not-realised', reason: 'NOT_REALISED', message })
}

function fateOf(replica: OvsReplica, { name, ifindex, isRaised, isSuperseded }: Expected): Fate {
  if (isSuperseded?.()) return { kind: 'works' }
  const row = replica.find('Interface', 'name', name)
  if (row === undefined) {
    const message = `somebody has taken ${name} out of Open vSwitch meanwhile`
    throw new BridgeError({ kind: 'busy', reason: 'CONFLICT', message })
  }
  const why = faultOf(row, ifindex)
  if (why !== undefined) return { kind: 'failed', why }
  // It may have looked for the MTU before the device was there and for the index after: the device's event is still to come.
  const isUntold = row.ifindex === undefined || (ifindex !== undefined && row.mtu === undefined)
  const isAwaited = isUntold || (isRaised === true && row.admin_state === 'down')
  return { kind: isAwaited ? 'awaited' : 'works' }
}

/** A device that is not there has the index 0. */
function faultOf(row: OvsRows['Interface'], ifindex: number | undefined): string | undefined {
  if (row.error !== undefined && row.error !== '') return row.error
  if (row.ofport === undefined) return 'it has no OpenFlow port; the bridge itself may have failed'
  if (isHalfOpen(row)) return 'ovs-vswitchd has opened it without an OpenFlow port'
  if (row.ifindex === undefined || ifindex === undefined || row.ifindex === ifindex) return undefined
  return row.ifindex === 0 ? 'its device is not there' : 'another device is open under its name'
}
