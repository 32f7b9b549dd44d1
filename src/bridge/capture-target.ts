import { assertNever } from '../lib/assert-never.js'
import type { Call } from './call.js'
import { type CapturePorts, createCapturePort } from './capture-port.js'
import type { Host } from './host.js'
import { managedBridge } from './inventory.js'
import type { BridgeName, PortName } from './names.js'
import { ownerOf } from './ownership.js'
import { busy, tapNotFound } from './problem.js'
import { problemOf } from './problem-of.js'
import type { UndoStep } from './undo.js'

/** What is captured. */
export type CaptureTarget =
  | { readonly kind: 'tap'; readonly tap: PortName }
  /** Each frame that the bridge forwards, once. */
  | { readonly kind: 'bridge'; readonly bridge: BridgeName }

/** A target that was found. */
export interface FoundTarget {
  readonly target: CaptureTarget
  /** Why it is no longer there; undefined: it is there. */
  whyGone(): string | undefined
}

/** Errors: `not-found`. */
export function findTarget(host: Host, target: CaptureTarget): FoundTarget {
  switch (target.kind) {
    case 'tap': {
      const kept = host.records.get(target.tap)
      if (kept === undefined || kept.record.defunct) throw tapNotFound(target.tap)
      const isThere = () => {
        const now = host.records.get(target.tap)?.record
        return now?.id === kept.record.id && !now.defunct
      }
      return { target, whyGone: () => (isThere() ? undefined : `the tap ${target.tap} was destroyed`) }
    }
    case 'bridge': {
      const { _uuid } = managedBridge(host, target.bridge)
      const isThere = () => {
        const row = host.ovsdb.replica.get('Bridge', _uuid)
        return row !== undefined && ownerOf(row.external_ids) === host.instance
      }
      return { target, whyGone: () => (isThere() ? undefined : `the bridge ${target.bridge} was destroyed`) }
    }
    default:
      return assertNever(target)
  }
}

export function nameOfTarget(target: CaptureTarget): string {
  return target.kind === 'tap' ? target.tap : target.bridge
}

/** The device by which a target is captured. */
export interface CaptureDevice {
  readonly device: string
  /** Made for this capture alone; undefined: the tap's own device. */
  readonly port: PortName | undefined
}

/**
 * Finds a tap's device, or makes a port that is handed all that its bridge forwards. Errors: those of
 * {@link createCapturePort}.
 */
export async function openTarget(
  host: Host,
  ports: CapturePorts,
  target: CaptureTarget,
  call: Call,
  undo: (step: UndoStep) => void,
): Promise<CaptureDevice> {
  if (target.kind === 'tap') return { device: target.tap, port: undefined }
  const port = await createCapturePort(host, ports, target.bridge, call, undo)
  return { device: port, port }
}

/** What a capture could not begin for: `busy` where a target has gone meanwhile, and with it a device. */
export function whyNotBegun(error: unknown, targets: readonly FoundTarget[]): unknown {
  const [why] = targets.flatMap(target => target.whyGone() ?? [])
  const kind = problemOf(error)?.kind
  const isOfDevice = kind === 'busy' || kind === 'device-refused' || kind === 'not-realised'
  if (why === undefined || !isOfDevice) return error
  return busy(why, { cause: error })
}
