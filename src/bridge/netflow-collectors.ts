import type { FileHandle } from 'node:fs/promises'
import { mkdir } from 'node:fs/promises'
import { raceAbort } from '../lib/abort.js'
import { LossyFeed } from '../lib/lossy-feed.js'
import {
  createFileBelow,
  type FileIdentity,
  identityOf,
  type PathBelow,
  removeFileBelow,
  reopenFileBelow,
} from '../lib/safe-file.js'
import { codeOf } from '../lib/thrown.js'
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
import type { Change } from '../ovsdb/index.js'
import { changesOfports, FlowPorts, namesByOfport } from './flow-ports.js'
import type { Notice } from './notice.js'
import type { OvsClient, OvsRows } from './ovs.js'
import { readNetflowRecord } from './ownership.js'
import { fileRefused, noNetflow } from './problem.js'

/** What the collectors work on. */
export interface NetflowGrounds {
  readonly instance: string
  readonly ovsdb: Pick<OvsClient, 'replica' | 'subscribe'>
  /** The only place where writers make files. */
  readonly captureDirectory: string
  readonly notice: Notice
}

/** A flow, and where it was seen. */
export interface ObservedFlow {
  readonly bridge: string
  /** Names of interfaces; undefined: not known. */
  readonly input: string | undefined
  readonly output: string | undefined
  readonly flow: Flow
}

/** What a collector is opened for. */
export interface NetflowSource {
  /** Of the row, which is there or is about to be. */
  readonly id: string
  readonly bridge: string
  readonly engine: Engine
  readonly activeTimeoutS: number
}

/** A new writer, and the file that it has made. */
export interface OpenedWriter {
  readonly writer: Writer
  readonly file: FileIdentity | undefined
}

type NetflowChange = Extract<Change<OvsRows>, { readonly table: 'NetFlow' }>

/** The collector of one NetFlow row. */
interface Live {
  readonly bridge: string
  readonly collector: Collector
  readonly ports: FlowPorts
}

/** A collector whose row has gone. */
interface Ending {
  readonly bridge: string
  readonly done: Promise<void>
}

/**
 * The collectors of all NetFlow rows of ours, by the id of the row. A row that goes or is ours no more, by whomever, takes
 * its collector along.
 */
export class NetflowCollectors implements AsyncDisposable {
  /** The flows of all bridges. */
  readonly flows = new LossyFeed<ObservedFlow>()
  readonly #grounds: NetflowGrounds
  readonly #live = new Map<string, Live>()
  /** Those that are being opened, and whose rows have not gone meanwhile. */
  readonly #opening = new Set<string>()
  readonly #ending = new Set<Ending>()
  readonly #following: Disposable

  constructor(grounds: NetflowGrounds) {
    this.#grounds = grounds
    this.#following = grounds.ovsdb.subscribe(changes => {
      if (changesOfports(changes)) for (const live of this.#live.values()) this.#lookAtPorts(live)
      for (const change of changes) if (change.table === 'NetFlow') this.#follow(change)
    })
  }

  /** Ends all, and leaves the rows for the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#following[Symbol.dispose]()
    this.#opening.clear()
    for (const id of this.#live.keys()) this.end(id)
    await Promise.all(Array.from(this.#ending, ({ done }) => done))
  }

  get(id: string): Collector | undefined {
    return this.#live.get(id)?.collector
  }

  /** Errors: `not-found` when the row goes meanwhile. */
  async open({ id, bridge, engine, activeTimeoutS }: NetflowSource): Promise<Collector> {
    this.#opening.add(id)
    const ports = new FlowPorts(activeTimeoutS)
    const collector = await openCollector({
      engine,
      onDatagram: ({ flows }) => {
        if (this.flows.readerCount > 0) this.flows.publish(flows.map(flow => observe(bridge, ports, flow)))
      },
    })
    if (!this.#opening.delete(id)) {
      await collector[Symbol.asyncDispose]()
      throw noNetflow(bridge)
    }
    const live = { bridge, collector, ports }
    this.#live.set(id, live)
    this.#lookAtPorts(live)
    return collector
  }

  /** Ends a collector; one that is not there is no hindrance. */
  end(id: string): void {
    this.#opening.delete(id)
    const live = this.#live.get(id)
    if (live === undefined) return
    this.#live.delete(id)
    const ending = { bridge: live.bridge, done: live.collector[Symbol.asyncDispose]() }
    this.#ending.add(ending)
    void ending.done.finally(() => this.#ending.delete(ending))
  }

  /** Resolves when those of a bridge that are ending have written what they had. */
  async ended(bridge: string, signal: AbortSignal): Promise<void> {
    const own = [...this.#ending].filter(ending => ending.bridge === bridge)
    await raceAbort(Promise.all(own.map(({ done }) => done)), signal)
  }

  /**
   * A writer whose file is made now, if it writes to one. Nothing need listen yet for one that connects.
   * Errors: `already-exists`, `file-refused`.
   */
  async openWriter(bridge: string, spec: WriterSpec): Promise<OpenedWriter> {
    const { target } = spec
    const made = target.kind === 'file' ? await this.#createFile(target.path) : undefined
    const file = made && (await identityOf(made))
    return { writer: this.#writer(bridge, spec, file, made), file }
  }

  /** A writer that goes on with what an earlier run has written; undefined: it is not known which file that had made. */
  resumeWriter(bridge: string, spec: WriterSpec, file: FileIdentity | undefined): Writer {
    return this.#writer(bridge, spec, file)
  }

  /** Removes the file that {@link openWriter} has just made. */
  async forgetFile({ target }: WriterSpec): Promise<void> {
    if (target.kind === 'file') await removeFileBelow(this.#grounds.captureDirectory, target.path)
  }

  #writer(bridge: string, spec: WriterSpec, file: FileIdentity | undefined, made?: FileHandle): Writer {
    let first = made
    const openFile = async (path: PathBelow) => {
      const handle = first ?? (await this.#reopenFile(path, file))
      first = undefined
      return handle
    }
    return new Writer({
      spec,
      open: signal => openSink(spec, openFile, signal),
      onProblem: problem => {
        const details = { bridge, writer: writerName(spec.target), problem }
        this.#grounds.notice('warn', 'a NetFlow writer fails; trying again', details)
      },
    })
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

  /** Goes on with the file that was made, and with no other. */
  async #reopenFile(path: PathBelow, made: FileIdentity | undefined): Promise<FileHandle> {
    const file = await reopenFileBelow(this.#grounds.captureDirectory, path).catch((error: unknown) => {
      throw codeOf(error) === 'ENOENT' ? new Error('the file was removed') : fileRefused(path, error)
    })
    if (made === undefined || (await identityOf(file)) === made) return file
    await file.close()
    throw new Error('another file is in its place')
  }

  /** Takes in what has become of a row. */
  #follow(change: NetflowChange): void {
    const { instance } = this.#grounds
    const before = change.kind === 'insert' ? undefined : readNetflowRecord(instance, change.before.external_ids)?.id
    const after = change.kind === 'delete' ? undefined : readNetflowRecord(instance, change.after.external_ids)?.id
    if (before !== undefined && before !== after) this.end(before)
    if (change.kind === 'delete' || after === undefined) return
    this.#live.get(after)?.ports.setActiveTimeout(Number(change.after.active_timeout), Date.now())
  }

  #lookAtPorts({ bridge, ports }: Live): void {
    const { replica } = this.#grounds.ovsdb
    const row = replica.find('Bridge', 'name', bridge)
    if (row !== undefined) ports.update(namesByOfport(replica, row), Date.now())
  }
}

async function openSink(
  { target }: WriterSpec,
  openFile: (path: PathBelow) => Promise<FileHandle>,
  signal: AbortSignal,
): Promise<Sink> {
  switch (target.kind) {
    case 'file':
      return fileSink(await openFile(target.path))
    case 'tcp':
      return await connectTcp(target.host, target.port, signal)
    case 'udp':
      return await connectUdp(target.host, target.port, signal)
  }
}

function observe(bridge: string, ports: FlowPorts, flow: Flow): ObservedFlow {
  const nameOf = (number: number) => ports.nameAt(number, flow.lastMs)
  return { bridge, input: nameOf(flow.input), output: nameOf(flow.output), flow }
}
