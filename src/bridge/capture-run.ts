import type { CaptureEnd, CaptureFile, RunningCapture, SnapLen } from '../capture/index.js'
import { assertNever } from '../lib/assert-never.js'
import type { PathBelow } from '../lib/safe-file.js'
import type { CaptureTarget, FoundTarget } from './capture-target.js'
import type { PortName } from './names.js'

export { defaultSnapLen, parseSnapLen, type SnapLen } from '../capture/index.js'

export interface CaptureSpec {
  readonly target: CaptureTarget
  /** undefined: generated. */
  readonly fileName: PathBelow | undefined
  /** pcap-filter(7); empty: all. */
  readonly filter: string
  readonly snapLen: SnapLen
  /** undefined: no limit; so are the next two. */
  readonly maxPackets: number | undefined
  readonly maxBytes: number | undefined
  readonly maxDurationMs: number | undefined
  readonly ring: { readonly files: number; readonly fileBytes: number } | undefined
}

/** A capture as it is now. */
export interface Capture extends Omit<CaptureSpec, 'fileName'> {
  readonly id: number
  readonly fileName: PathBelow
  readonly state: 'running' | 'stopped' | 'failed'
  /** A sentence; empty while it runs. */
  readonly endReason: string
  readonly packets: bigint
  readonly fileBytes: bigint
  readonly dropped: bigint
  readonly startMs: number
  readonly endMs: number | undefined
}

/** Of a capture that was begun. */
interface Begun {
  readonly id: number
  readonly spec: CaptureSpec & { readonly fileName: PathBelow }
  readonly found: FoundTarget
  readonly file: CaptureFile
  /** Made for it. */
  readonly port: PortName | undefined
  readonly place: Disposable
  readonly engineRun: RunningCapture
}

/** Who is said to have ended what nobody has told to end. */
const byItself = 'end of a capture'

/** A capture from its start to its end. */
export class CaptureRun {
  readonly id: number
  readonly found: FoundTarget
  readonly file: CaptureFile
  readonly port: PortName | undefined
  readonly place: Disposable
  readonly engineRun: RunningCapture
  /** When it has ended and nothing of it is left but its files. */
  readonly settled: Promise<void>
  readonly #spec: Begun['spec']
  readonly #startMs = Date.now()
  readonly #timer: NodeJS.Timeout | undefined
  #settle: () => void = () => {}
  /** Why it was told to end, and by whom. */
  #told: { readonly why: string; readonly by: string } | undefined
  #end: { readonly state: 'stopped' | 'failed'; readonly reason: string; readonly atMs: number } | undefined

  constructor({ id, spec, found, file, port, place, engineRun }: Begun) {
    this.id = id
    this.#spec = spec
    this.found = found
    this.file = file
    this.port = port
    this.place = place
    this.engineRun = engineRun
    this.settled = new Promise(resolve => (this.#settle = resolve))
    const { maxDurationMs } = spec
    if (maxDurationMs !== undefined) this.#timer = setTimeout(() => this.end('max_duration has passed'), maxDurationMs)
  }

  /** Who had it end, for the comment of a transaction. */
  get endedBy(): string {
    return this.#told?.by ?? byItself
  }

  /** Tells it to end; only the first reason counts. */
  end(why: string, by = byItself): void {
    if (this.#told !== undefined) return
    this.#told = { why, by }
    this.engineRun.stop()
  }

  conclude(end: CaptureEnd): void {
    clearTimeout(this.#timer)
    const why = this.#told?.why ?? this.found.whyGone() ?? 'its device was removed'
    this.#end = { ...outcomeOf(end, why), atMs: Date.now() }
  }

  settle(): void {
    this.#settle()
  }

  view(): Capture {
    const counters = this.engineRun.counters()
    return {
      ...this.#spec,
      id: this.id,
      ...counters,
      state: this.#end?.state ?? 'running',
      endReason: this.#end?.reason ?? '',
      startMs: this.#startMs,
      endMs: this.#end?.atMs,
    }
  }
}

/** What a capture's end means; `why` it was told to, or its device went. */
function outcomeOf(end: CaptureEnd, why: string): { readonly state: 'stopped' | 'failed'; readonly reason: string } {
  switch (end.kind) {
    case 'told':
      return { state: 'stopped', reason: why }
    case 'packet-limit':
      return { state: 'stopped', reason: 'max_packets is reached' }
    case 'byte-limit':
      return { state: 'stopped', reason: 'max_bytes is reached' }
    case 'device-gone':
      return { state: 'stopped', reason: why }
    case 'quota':
      return { state: 'failed', reason: 'the files in the capture directory have reached --capture-quota' }
    case 'failed':
      return { state: 'failed', reason: end.detail }
    default:
      return assertNever(end)
  }
}
