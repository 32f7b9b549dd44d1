import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Child } from '../../src/embedded/child.js'
import {
  createDatabase,
  epochReached,
  prepareDatabase,
  requestEpoch,
  rowsOf,
  transact,
} from '../../src/embedded/database.js'
import type { Exit } from '../../src/embedded/errors.js'
import { type Layout, layoutOf } from '../../src/embedded/layout.js'
import { startOvsdbServer, startVswitchd } from '../../src/embedded/processes.js'
import { findPrograms, type Programs } from '../../src/embedded/programs.js'
import { type Dump, dumpDatabase } from './dump.js'
import { lane } from './lane.js'
import { isAlive } from './process.js'
import { until } from './until.js'

/** A real Open vSwitch of the test's own, in the namespace the test is in, with the lane's datapath. */
export interface PrivateOvs extends AsyncDisposable {
  /** `unix:<path>`, as `--ovsdb` takes it. */
  readonly endpoint: string
  /** What a bridge's `datapath_type` has to be in this lane. */
  readonly datapathType: 'netdev' | 'system'
  readonly vswitchd: ProcessControl
  readonly ovsdbServer: ProcessControl
  /** Of ovs-vswitchd, by itself. */
  readonly crashes: number
  /** One OVSDB transaction (RFC 7047 §4.1.3) by somebody else; rejects when any operation failed. */
  transact(...operations: readonly unknown[]): Promise<readonly unknown[]>
  /** A transaction, and then ovs-vswitchd has put it into effect. */
  configure(...operations: readonly unknown[]): Promise<readonly unknown[]>
  /** The rows of one table that fit `where`. */
  select(table: string, where?: readonly unknown[]): Promise<readonly Readonly<Record<string, unknown>>[]>
  /** All that lasts in the database, for a comparison of before and after. */
  dump(): Promise<Dump>
}

/** Nothing brings a process back that the test has taken down; an ovs-vswitchd that crashes is started anew. */
export interface ProcessControl {
  readonly pid: number
  /** SIGSTOP: it is there, and answers nothing. */
  stop(): void
  /** SIGCONT */
  continue(): void
  /** SIGKILL; resolves when it is dead. */
  kill(): Promise<void>
  /** Kills it if it still runs, starts it, and resolves when it is ready. */
  restart(): Promise<void>
}

/**
 * Starts it in a directory of its own, in the namespace the test is in or in another one: a second host. Disposing kills
 * it and leaves its devices to the namespace's end.
 */
export async function startPrivateOvs(signal: AbortSignal, namespace?: { readonly path: string }): Promise<PrivateOvs> {
  const layout = layoutOf(mkdtempSync(join(tmpdir(), 'ovs-')))
  const programs = namespace === undefined ? findPrograms({}) : programsIn(namespace.path, layout)
  const running = new Map<string, Child>()
  let isOver = false
  const control = (name: string, start: () => Promise<Child>): ProcessControl =>
    controlOf(
      () => running.get(name),
      async () => void running.set(name, await start()),
    )
  const ovsdbServer = control('ovsdb-server', () => startOvsdbServer(layout, programs, signal))
  const vswitchd = control('ovs-vswitchd', async () => {
    await until('a machine that is up for 11 s', () => process.hrtime.bigint() > coresCountedNs)
    const child = await startVswitchd(layout, programs, signal)
    void child.exited.then(exit => (hasCrashed(exit) && !isOver ? revive(exit.signal) : undefined))
    return child
  })
  let crashes = 0
  const revive = async (fault: string): Promise<void> => {
    crashes++
    process.stderr.write(`ovs-vswitchd has crashed by ${fault}, and is started anew\n`)
    await vswitchd.restart().catch((error: unknown) => {
      if (!isOver) process.stderr.write(`ovs-vswitchd could not be started anew: ${String(error)}\n`)
    })
  }
  const dispose = async (): Promise<void> => {
    isOver = true
    for (const child of running.values()) {
      child.kill('SIGKILL')
      await child.exited
    }
    rmSync(layout.directory, { recursive: true })
  }
  try {
    createDatabase(layout, programs)
    await ovsdbServer.restart()
    await prepareDatabase(layout, programs, lane === 'userspace' ? { 'userspace-tso-enable': 'true' } : {}, signal)
    await vswitchd.restart()
  } catch (error) {
    await dispose()
    throw error
  }
  const socket = layout.databaseSocket
  return {
    endpoint: `unix:${socket}`,
    get crashes() {
      return crashes
    },
    datapathType: lane === 'userspace' ? 'netdev' : 'system',
    vswitchd,
    ovsdbServer,
    transact: (...operations) => transact(socket, operations, signal),
    configure: async (...operations) => {
      const results = await transact(socket, operations, signal)
      await epochReached(socket, await requestEpoch(socket, signal), signal)
      return results
    },
    select: async (table, where = []) => rowsOf((await transact(socket, [{ op: 'select', table, where }], signal))[0]),
    dump: () => dumpDatabase(socket, signal),
    [Symbol.asyncDispose]: dispose,
  }
}

/**
 * Whether it was at fault itself. `--monitor`, with which distributions run ovs-vswitchd, brings it back then, and so is one of
 * tests: docs/adr/0028-a-half-open-port-is-opened-anew.md says when it crashes.
 */
function hasCrashed(exit: Exit): exit is Extract<Exit, { kind: 'signal' }> {
  return exit.kind === 'signal' && ['SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGILL', 'SIGSEGV'].includes(exit.signal)
}

/**
 * ovs-vswitchd counts 0 cores, and so handles no upcalls, while the monotonic clock is under 10 s: a user-mode kernel
 * boots in 2.
 */
const coresCountedNs = 11_000_000_000n

/** Programs that enter a network namespace before they do anything; nsenter(1) is of the package that has setpriv(1). */
function programsIn(netns: string, layout: Layout): Programs {
  const programs = findPrograms({})
  const setpriv = join(layout.directory, 'setpriv-in-namespace')
  writeFileSync(setpriv, `#!/bin/sh\nexec nsenter --net='${netns}' '${programs.setpriv}' "$@"\n`, { mode: 0o755 })
  return { ...programs, setpriv }
}

function controlOf(current: () => Child | undefined, start: () => Promise<void>): ProcessControl {
  const child = (): Child => {
    const found = current()
    if (found === undefined) throw new Error('the process was never started')
    return found
  }
  const kill = async (): Promise<void> => {
    const { pid, exited } = child()
    child().kill('SIGKILL')
    await exited
    await until(`process ${pid} is dead`, () => !isAlive(pid))
  }
  return {
    get pid() {
      return child().pid
    },
    stop: () => child().kill('SIGSTOP'),
    continue: () => child().kill('SIGCONT'),
    kill,
    restart: async () => {
      if (current() !== undefined) await kill()
      await start()
    },
  }
}

/** A port as somebody else would add it. */
export interface ForeignPort {
  readonly name: string
  /** `internal` for a device of ovs-vswitchd's own; '' (if not given) for one that is there. */
  readonly type?: string
  readonly tag?: number
}

/** Adds a bridge with ports the way another program would, and waits until it is in effect. */
export async function addForeignBridge(ovs: PrivateOvs, name: string, ports: readonly ForeignPort[]): Promise<void> {
  const all: readonly ForeignPort[] = [{ name, type: 'internal' }, ...ports]
  const row = {
    name,
    datapath_type: ovs.datapathType,
    ports: ['set', all.map((_, i) => ['named-uuid', `port${i}`])],
  }
  await ovs.configure(
    ...all.flatMap((port, i) => [
      {
        op: 'insert',
        table: 'Interface',
        'uuid-name': `interface${i}`,
        row: { name: port.name, type: port.type ?? '' },
      },
      {
        op: 'insert',
        table: 'Port',
        'uuid-name': `port${i}`,
        row: {
          name: port.name,
          interfaces: ['named-uuid', `interface${i}`],
          ...(port.tag !== undefined && { tag: port.tag }),
        },
      },
    ]),
    { op: 'insert', table: 'Bridge', 'uuid-name': 'bridge', row },
    { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['bridges', 'insert', ['named-uuid', 'bridge']]] },
  )
}
