import {
  type CaptureEngine,
  faultOfFilter,
  type SnapLen,
  type StreamChunk,
  type StreamSource,
} from '../capture/index.js'
import { abortScope, cancelled, raceAbort } from '../lib/abort.js'
import type { Call } from './call.js'
import type { CapturePlaces } from './capture-places.js'
import { type CapturePorts, removeCapturePort } from './capture-port.js'
import { type CaptureTarget, findTarget, nameOfTarget, openTarget, whyNotBegun } from './capture-target.js'
import type { Host } from './host.js'
import { invalid } from './problem.js'
import { undoingOnFailure } from './undo.js'

export interface StreamSpec {
  /** At least one. */
  readonly targets: readonly CaptureTarget[]
  /** pcap-filter(7); empty: all. */
  readonly filter: string
  readonly snapLen: SnapLen
  /** undefined: no limit. */
  readonly maxPackets: number | undefined
}

/** What streams share with captures to files. */
export interface StreamParts {
  readonly engine: CaptureEngine
  readonly ports: CapturePorts
  readonly places: CapturePlaces
}

/**
 * The packets of taps, or of a bridge, as pcapng, until none of them is left or the limit is reached; rejects with the
 * signal's reason.
 *
 * Errors: `invalid` filter; `not-found`; `exhausted` places; `device-refused`; for a bridge `exhausted` mirrors, those of a commit, and
 * `not-realised`; `busy` when a target goes while it begins.
 */
export async function* streamCapture(
  host: Host,
  { engine, ports, places }: StreamParts,
  spec: StreamSpec,
  call: Call,
): AsyncGenerator<StreamChunk, void> {
  const { targets, filter, snapLen, maxPackets } = spec
  const found = targets.map(target => findTarget(host, target))
  const fault = await raceAbort(faultOfFilter(filter, snapLen), call.signal)
  if (fault !== undefined) throw invalid([{ field: 'filter', description: fault }])
  using _places = places.take(targets.length)
  const opened = await undoingOnFailure(host, call, async undo => {
    const devices = []
    for (const target of targets) devices.push({ target, ...(await openTarget(host, ports, target, call, undo)) })
    return devices
  }).catch((error: unknown) => {
    throw whyNotBegun(error, found)
  })
  const sources = opened.map(
    ({ target, device, port }): StreamSource => ({
      name: nameOfTarget(target),
      comment: commentOn(host, target, filter),
      device,
      filter,
      snapLenBytes: snapLen,
      inboundOnly: port !== undefined,
    }),
  )
  const scopes = found.map(target => ({ target, scope: abortScope() }))
  const endGone = () => {
    for (const { target, scope } of scopes) if (target.whyGone() !== undefined) scope.abort(cancelled())
  }
  using _following = host.ovsdb.subscribe(endGone)
  try {
    // They may have gone while the devices were made.
    endGone()
    const gone = scopes.map(({ scope }) => scope.signal)
    yield* engine.stream({ sources, maxPackets }, gone, call.signal)
  } catch (error) {
    throw whyNotBegun(error, found)
  } finally {
    for (const { port } of opened) if (port !== undefined) await removePort(host, ports, port, call)
  }
}

/** Goes on when the reader has left. */
async function removePort(host: Host, ports: CapturePorts, port: string, { caller }: Call): Promise<void> {
  try {
    await removeCapturePort(host, ports, port, { signal: host.lifetime, caller })
  } catch (error) {
    // The next start finds it.
    if (!host.lifetime.aborted) host.notice('warn', 'a capture left something behind', { port, error })
  }
}

function commentOn(host: Host, target: CaptureTarget, filter: string): string {
  const what = target.kind === 'bridge' ? `bridge ${target.bridge}, every frame once` : commentOnTap(host, target.tap)
  return filter === '' ? what : `${what}, filter ${filter}`
}

function commentOnTap(host: Host, tap: string): string {
  const record = host.records.get(tap)?.record
  return `bridge ${record?.bridge ?? '(none)'}, tap ${tap}, VLAN ${record?.vlan ?? 0}`
}
