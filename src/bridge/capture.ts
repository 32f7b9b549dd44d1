import {
  baseNameOf,
  type CaptureEngine,
  type CaptureFile,
  type CaptureStore,
  closeFile,
  createCaptureFile,
  faultOfFilter,
  removeCaptureFile,
  ringFileName,
  type StreamChunk,
} from '../capture/index.js'
import { abortScope, raceAbort } from '../lib/abort.js'
import { type PathBelow, parsePathBelow } from '../lib/safe-file.js'
import type { Call } from './call.js'
import { CaptureIds } from './capture-id.js'
import { CapturePlaces } from './capture-places.js'
import { type CapturePorts, removeCapturePort } from './capture-port.js'
import { type Capture, CaptureRun, type CaptureSpec } from './capture-run.js'
import { type StreamSpec, streamCapture } from './capture-stream.js'
import {
  type CaptureTarget,
  type FoundTarget,
  findTarget,
  nameOfTarget,
  openTarget,
  whyNotBegun,
} from './capture-target.js'
import type { Host } from './host.js'
import type { PortName } from './names.js'
import { captureNotFound, exhausted, fileRefused, invalid } from './problem.js'
import { type UndoStep, undoingOnFailure } from './undo.js'

/** As many captures are still told of when they have ended. */
const maxEnded = 1_000

/** How long the end of the service waits for what its captures leave to be removed. */
const closeWithinMs = 5_000

/** All captures to files of this run. */
export class Captures implements AsyncDisposable {
  readonly #host: Host
  readonly #engine: CaptureEngine
  readonly #ids: CaptureIds
  readonly #store: CaptureStore
  readonly #places: CapturePlaces
  readonly #running = new Map<number, CaptureRun>()
  readonly #ended = new Map<number, Capture>()
  /** Of captures and of streams. */
  readonly ports: CapturePorts = new Set()
  readonly #following: Disposable

  /** `most` captures at the same time, streams among them. */
  constructor(host: Host, engine: CaptureEngine, store: CaptureStore, most: number) {
    this.#host = host
    this.#engine = engine
    this.#ids = new CaptureIds(host)
    this.#store = store
    this.#places = new CapturePlaces(most)
    this.#following = host.ovsdb.subscribe(() => this.#endGone())
  }

  /**
   * Returns when packets are being written. What can be refused is refused before any file, port or mirror is made, and
   * what fails later leaves none.
   *
   * Errors: `invalid` filter; `not-found`; `already-exists` and `file-refused` of the file; `exhausted` places or quota;
   * `device-refused`; for a bridge `exhausted` mirrors, those of a commit, and `not-realised`; `busy` when the target goes meanwhile.
   */
  async start(spec: CaptureSpec, call: Call): Promise<Capture> {
    const host = this.#host
    const found = findTarget(host, spec.target)
    const fault = await raceAbort(faultOfFilter(spec.filter, spec.snapLen), call.signal)
    if (fault !== undefined) throw invalid([{ field: 'filter', description: fault }])
    try {
      return await undoingOnFailure(host, call, undo => this.#begin(spec, found, call, undo))
    } catch (error) {
      throw whyNotBegun(error, [found])
    }
  }

  /** Ends a capture, and returns when its file is complete and its port gone. Errors: `not-found`. */
  async stop(id: number, call: Call): Promise<Capture> {
    const running = this.#running.get(id)
    if (running !== undefined) {
      running.end('stopped by a call', call.caller)
      await raceAbort(running.settled, call.signal)
      return running.view()
    }
    const ended = this.#ended.get(id)
    if (ended === undefined) throw captureNotFound(id)
    return ended
  }

  /** Ends all that run; answers with them as they ended, in no order. One that fails keeps none of the others. */
  async stopAll(call: Call): Promise<Capture[]> {
    const ids = [...this.#running.keys()]
    const outcomes = await Promise.allSettled(ids.map(id => this.stop(id, call)))
    const failed = outcomes.find(outcome => outcome.status === 'rejected')
    if (failed !== undefined) throw failed.reason
    return outcomes.flatMap(outcome => (outcome.status === 'fulfilled' ? [outcome.value] : []))
  }

  /** Those that run and those that have ended, in no order. */
  list(): Capture[] {
    return [...this.#ended.values(), ...Array.from(this.#running.values(), running => running.view())]
  }

  /** As {@link streamCapture}. */
  stream(spec: StreamSpec, call: Call): AsyncGenerator<StreamChunk, void> {
    return streamCapture(this.#host, { engine: this.#engine, ports: this.ports, places: this.#places }, spec, call)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#following[Symbol.dispose]()
    using scope = abortScope({ deadline: Date.now() + closeWithinMs })
    const left = [...this.#running.values()]
    for (const running of left) running.end('the service stopped')
    await raceAbort(Promise.all(left.map(running => running.settled)), scope.signal).catch(() => undefined)
  }

  async #begin(spec: CaptureSpec, found: FoundTarget, call: Call, undo: (step: UndoStep) => void): Promise<Capture> {
    const place = this.#places.take(1)
    undo(async () => place[Symbol.dispose]())
    await raceAbort(this.#refuseOverQuota(), call.signal)
    const id = await this.#ids.take(call)
    const fileName = spec.fileName ?? generatedName(spec.target, id)
    const firstName = spec.ring === undefined ? fileName : ringFileName(fileName, 1)
    const file = await this.#createFile(firstName)
    let isHandedOver = false
    undo(async () => {
      removeCaptureFile(file)
      await file.folder.close()
      if (!isHandedOver) await closeFile(file)
    })
    const { device, port } = await openTarget(this.#host, this.ports, spec.target, call, undo)
    const { filter, snapLen, maxPackets, maxBytes, ring } = spec
    isHandedOver = true
    const starting = this.#engine.start({
      source: { device, filter, snapLenBytes: snapLen, inboundOnly: port !== undefined },
      file: { fd: file.fd, folderFd: file.folder.fd, name: file.name, identity: file.identity },
      limits: { packets: maxPackets, bytes: maxBytes },
      ring: ring && { ...ring, baseName: baseNameOf(fileName) },
    })
    undo(async () => {
      // One that did not begin has told its caller why, who may be gone.
      const begun = await starting.catch(() => undefined)
      begun?.stop()
      await begun?.ended
    })
    const engineRun = await raceAbort(starting, call.signal)
    const running = new CaptureRun({ id, spec: { ...spec, fileName }, found, file, port, place, engineRun })
    this.#running.set(id, running)
    void this.#follow(running)
    // It may have gone while the capture began.
    this.#endGone()
    return running.view()
  }

  #endGone(): void {
    for (const running of this.#running.values()) {
      const why = running.found.whyGone()
      if (why !== undefined) running.end(why)
    }
  }

  /** Sees a capture to its end. */
  async #follow(running: CaptureRun): Promise<void> {
    running.conclude(await running.engineRun.ended)
    running.place[Symbol.dispose]()
    try {
      await running.file.folder.close()
      if (running.port !== undefined) await this.#removePort(running.port, running.endedBy)
    } catch (error) {
      // The next start finds it.
      if (!this.#host.lifetime.aborted) {
        this.#host.notice('warn', 'a capture left something behind', { id: running.id, error })
      }
    }
    this.#running.delete(running.id)
    this.#ended.set(running.id, running.view())
    for (const id of this.#ended.keys()) if (this.#ended.size > maxEnded) this.#ended.delete(id)
    running.settle()
  }

  async #createFile(path: PathBelow): Promise<CaptureFile> {
    try {
      return await createCaptureFile(this.#store.directory, path)
    } catch (error) {
      throw fileRefused(path, error)
    }
  }

  async #removePort(port: PortName, caller: string): Promise<void> {
    const { lifetime, ovsdb } = this.#host
    await ovsdb.ready(lifetime)
    await removeCapturePort(this.#host, this.ports, port, { signal: lifetime, caller })
  }

  async #refuseOverQuota(): Promise<void> {
    const { directory, quotaBytes } = this.#store
    if (await this.#engine.hasRoom()) return
    throw exhausted(`the files in ${directory} have reached --capture-quota, ${quotaBytes} bytes`)
  }
}

/** Names of taps and bridges hold no slash. */
function generatedName(target: CaptureTarget, id: number): PathBelow {
  const name = parsePathBelow(`${nameOfTarget(target)}-${id}.pcap`)
  if (!name.ok) throw new Error(name.reason)
  return name.value
}
