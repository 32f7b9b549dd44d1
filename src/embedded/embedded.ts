import { mkdirSync, readFileSync } from 'node:fs'
import { Disposables } from '../lib/disposables.js'
import { messageOf } from '../lib/thrown.js'
import { claimDirectory, datapathHolder, killOrphans } from './claim.js'
import { createDatabase, prepareDatabase, type Versions } from './database.js'
import { EmbeddedError } from './errors.js'
import { type Layout, layoutOf } from './layout.js'
import { internalDevices } from './leftovers.js'
import { boundLogs } from './log-bound.js'
import { startOvsdbServer, startVswitchd, stopOvsdbServer, stopVswitchd } from './processes.js'
import { findPrograms, type Programs } from './programs.js'
import { type ProcessEvent, type ProcessStatus, type Supervised, supervise } from './supervise.js'

/** What happens to the private Open vSwitch, for the log. */
export type EmbeddedEvent =
  | ProcessEvent
  /** Processes that a dead daemon had left were killed. */
  | { readonly kind: 'orphans-killed'; readonly pids: readonly number[] }
  /** Devices that a dead ovs-vswitchd had left were handed to `removeLinks`; those that were there are gone. */
  | { readonly kind: 'cleaned'; readonly links: readonly string[] }
  | { readonly kind: 'clean-failed'; readonly links: readonly string[]; readonly error: unknown }

export interface EmbeddedOptions {
  /** Made with mode 0700 when missing; keeps conf.db from run to run, and the logs. */
  readonly directory: string
  /** Covers the start only. */
  readonly signal: AbortSignal
  readonly onEvent: (event: EmbeddedEvent) => void
  /**
   * Removes those of `names` that exist as persistent TUN/TAP devices in this network namespace and are nobody's tap,
   * and says which.
   */
  readonly removeLinks: (names: readonly string[], signal: AbortSignal) => Promise<readonly string[]>
  readonly programs?: Partial<Programs>
}

/** A running private Open vSwitch; disposing takes it down with all its devices, and leaves the directory. */
export interface EmbeddedOvs extends AsyncDisposable {
  /** The database, as an OVSDB connection method: `unix:<path>`. */
  readonly endpoint: string
  readonly versions: Versions
  readonly status: { readonly ovsdbServer: ProcessStatus; readonly vswitchd: ProcessStatus }
}

/**
 * Starts ovsdb-server and ovs-vswitchd in this thread's network namespace, ready for bridges of
 * `datapath_type=netdev`, and keeps both running. Both die with this process, however it ends. Rejects with an
 * {@link EmbeddedError} or the signal's reason, and then has left nothing running.
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedOvs> {
  const { signal, onEvent } = options
  const layout = layoutOf(options.directory)
  const programs = findPrograms(options.programs ?? {})
  makeDirectory(layout)
  const parts = new Disposables()
  try {
    parts.use(claimDirectory(layout))
    const pids = await killOrphans(layout, signal)
    if (pids.length > 0) onEvent({ kind: 'orphans-killed', pids })
    const holder = datapathHolder()
    if (holder !== undefined) throw new EmbeddedError({ kind: 'datapath-held', pid: holder })

    parts.use(boundLogs([layout.ovsdbServer, layout.vswitchd]))
    createDatabase(layout, programs)
    const ovsdbServer = await superviseOvsdbServer(layout, programs, onEvent, signal)
    parts.defer(() => ovsdbServer.stop())
    const versions = await prepareDatabase(layout, programs, otherConfigBeforeStart, signal)
    const vswitchd = await superviseVswitchd(layout, programs, options)
    parts.defer(() => stopAndClean(layout, vswitchd, options))

    let disposed: Promise<void> | undefined
    return {
      endpoint: `unix:${layout.databaseSocket}`,
      versions,
      get status() {
        return { ovsdbServer: ovsdbServer.status, vswitchd: vswitchd.status }
      },
      [Symbol.asyncDispose]: () => {
        disposed ??= parts[Symbol.asyncDispose]()
        return disposed
      },
    }
  } catch (error) {
    await parts[Symbol.asyncDispose]()
    throw error
  }
}

/** Without it TCP between veth ends fails on the userspace datapath; it counts only before ovs-vswitchd starts. */
const otherConfigBeforeStart = { 'userspace-tso-enable': 'true' }

const cleanWithinMs = 20_000

function makeDirectory(layout: Layout): void {
  try {
    mkdirSync(layout.directory, { recursive: true, mode: 0o700 })
  } catch (error) {
    const detail = messageOf(error)
    throw new EmbeddedError({ kind: 'bad-directory', directory: layout.directory, detail }, { cause: error })
  }
}

function superviseOvsdbServer(
  layout: Layout,
  programs: Programs,
  onEvent: (event: EmbeddedEvent) => void,
  signal: AbortSignal,
): Promise<Supervised> {
  const start = (within: AbortSignal) => startOvsdbServer(layout, programs, within)
  return supervise({ name: 'ovsdb-server', start, stop: stopOvsdbServer, onEvent }, signal)
}

function superviseVswitchd(layout: Layout, programs: Programs, options: EmbeddedOptions): Promise<Supervised> {
  const start = async (within: AbortSignal) => {
    await clean(internalDevices(readFileSync(layout.database, 'utf8')).unwanted, options, within)
    return startVswitchd(layout, programs, within)
  }
  const { onEvent, signal } = options
  return supervise({ name: 'ovs-vswitchd', start, stop: stopVswitchd, onEvent }, signal)
}

/** An ovs-vswitchd that was killed could not take its devices along. */
async function stopAndClean(layout: Layout, vswitchd: Supervised, options: EmbeddedOptions): Promise<void> {
  const { clean: wasClean } = await vswitchd.stop()
  if (wasClean) return
  const { wanted, unwanted } = internalDevices(readFileSync(layout.database, 'utf8'))
  await clean([...wanted, ...unwanted], options, AbortSignal.timeout(cleanWithinMs))
}

async function clean(names: readonly string[], options: EmbeddedOptions, signal: AbortSignal): Promise<void> {
  try {
    const links = await options.removeLinks(names, signal)
    if (links.length > 0) options.onEvent({ kind: 'cleaned', links })
  } catch (error) {
    options.onEvent({ kind: 'clean-failed', links: names, error })
  }
}
