import type { FileHandle } from 'node:fs/promises'
import { mkdir } from 'node:fs/promises'
import { raceAbort } from '../lib/abort.js'
import { LossyFeed } from '../lib/lossy-feed.js'
import { createFileBelow, type PathBelow, removeFileBelow, reopenFileBelow } from '../lib/safe-file.js'
import {
  type Collector,
  connectTcp,
  connectUdp,
  type Engine,
  type Flow,
  fileSink,
  openCollector,
  type Sink,
  Writer,
  type WriterSpec,
  writerName,
} from '../netflow/index.js'
import { changesOfports, FlowPorts, namesByOfport } from './flow-ports.js'
import type { OvsClient } from './ovs.js'
import { readNetflowRecord } from './ownership.js'
import { fileRefused } from './problem.js'

/** What the collectors work on. */
export interface NetflowGrounds {
  readonly instance: string
  readonly ovsdb: OvsClient
  /** The only place where writers make files. */
  readonly captureDirectory: string
  readonly notice: (level: 'warn', message: string, details: Readonly<Record<string, unknown>>) => void
}

/** A flow, and where it was seen. */
export interface ObservedFlow {
  readonly bridge: string
  /** Names of interfaces; undefined: not known. */
  readonly input: string | undefined
  readonly output: string | undefined
  readonly flow: Flow
}

/** The collector of one NetFlow row. */
interface Live {
  readonly bridge: string
  readonly collector: Collector
  readonly ports: FlowPorts
}

/**
 * The collectors of all NetFlow rows of ours, by the id of the row. A row that goes, by whomever, takes its collector
 * along.
 */
export class NetflowCollectors implements AsyncDisposable {
  /** The flows of all bridges. */
  readonly flows = new LossyFeed<ObservedFlow>()
  readonly #grounds: NetflowGrounds
  readonly #live = new Map<string, Live>()
  readonly #ending = new Set<Promise<void>>()
  readonly #following: Disposable

  constructor(grounds: NetflowGrounds) {
    this.#grounds = grounds
    this.#following = grounds.ovsdb.subscribe(changes => {
      if (changesOfports(changes)) for (const live of this.#live.values()) this.#lookAtPorts(live)
      for (const change of changes) {
        if (change.table !== 'NetFlow' || change.kind !== 'delete') continue
        const record = readNetflowRecord(grounds.instance, change.before.external_ids)
        if (record !== undefined) this.end(record.id)
      }
    })
  }

  /** Ends all, and leaves the rows for the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#following[Symbol.dispose]()
    for (const id of this.#live.keys()) this.end(id)
    await Promise.all(this.#ending)
  }

  get(id: string): Collector | undefined {
    return this.#live.get(id)?.collector
  }

  /** Opens a collector for the row that has this id, or is about to have it. */
  async open(id: string, bridge: string, engine: Engine): Promise<Collector> {
    const ports = new FlowPorts()
    const collector = await openCollector({
      engine,
      onDatagram: ({ flows }) => {
        if (this.flows.readerCount > 0) this.flows.publish(flows.map(flow => observe(bridge, ports, flow)))
      },
    })
    const live = { bridge, collector, ports }
    this.#live.set(id, live)
    this.#lookAtPorts(live)
    return collector
  }

  /** Ends a collector; one that is not there is no hindrance. */
  end(id: string): void {
    const live = this.#live.get(id)
    if (live === undefined) return
    this.#live.delete(id)
    const ended = live.collector[Symbol.asyncDispose]()
    this.#ending.add(ended)
    void ended.finally(() => this.#ending.delete(ended))
  }

  /** Resolves when those that are ending have written what they had. */
  async ended(signal: AbortSignal): Promise<void> {
    await raceAbort(Promise.all(this.#ending), signal)
  }

  /**
   * A writer whose file is made now, if it writes to one. Nothing need listen yet for one that connects.
   * Errors: `already-exists`, `file-refused`.
   */
  async openWriter(bridge: string, spec: WriterSpec): Promise<Writer> {
    const { target } = spec
    const file = target.kind === 'file' ? await this.#createFile(target.path) : undefined
    return this.#writer(bridge, spec, file)
  }

  /** A writer that goes on with what an earlier run has written. */
  resumeWriter(bridge: string, spec: WriterSpec): Writer {
    return this.#writer(bridge, spec, undefined)
  }

  /** Removes the file that {@link openWriter} has just made. */
  async forgetFile({ target }: WriterSpec): Promise<void> {
    if (target.kind === 'file') await removeFileBelow(this.#grounds.captureDirectory, target.path)
  }

  #writer(bridge: string, spec: WriterSpec, file: FileHandle | undefined): Writer {
    let first = file
    return new Writer({
      spec,
      open: async signal => {
        const made = first
        first = undefined
        return await this.#openSink(spec, made, signal)
      },
      onProblem: problem => {
        const details = { bridge, writer: writerName(spec.target), problem }
        this.#grounds.notice('warn', 'a NetFlow writer fails; trying again', details)
      },
    })
  }

  async #openSink({ target }: WriterSpec, made: FileHandle | undefined, signal: AbortSignal): Promise<Sink> {
    switch (target.kind) {
      case 'file':
        return fileSink(made ?? (await this.#reopenFile(target.path)))
      case 'tcp':
        return await connectTcp(target.host, target.port, signal)
      case 'udp':
        return await connectUdp(target.host, target.port, signal)
    }
  }

  async #createFile(path: PathBelow): Promise<FileHandle> {
    const { captureDirectory } = this.#grounds
    try {
      await mkdir(captureDirectory, { recursive: true, mode: 0o750 })
      return await createFileBelow(captureDirectory, path)
    } catch (error) {
      throw fileRefused(path, error)
    }
  }

  /** Goes on with the file; one that somebody has removed is made anew. */
  async #reopenFile(path: PathBelow): Promise<FileHandle> {
    try {
      return await reopenFileBelow(this.#grounds.captureDirectory, path)
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw fileRefused(path, error)
      return await this.#createFile(path)
    }
  }

  #lookAtPorts({ bridge, ports }: Live): void {
    const { replica } = this.#grounds.ovsdb
    const row = replica.find('Bridge', 'name', bridge)
    if (row !== undefined) ports.update(namesByOfport(replica, row), Date.now())
  }
}

function observe(bridge: string, ports: FlowPorts, flow: Flow): ObservedFlow {
  const nameOf = (number: number) => ports.nameAt(number, flow.lastMs)
  return { bridge, input: nameOf(flow.input), output: nameOf(flow.output), flow }
}
