import { sleep } from '../lib/abort.js'
import { callJsonRpc } from '../lib/json-rpc.js'
import { codeOf } from '../lib/thrown.js'
import { type Child, startChild, stopChild, whenReady } from './child.js'
import { epochReached, requestEpoch } from './database.js'
import type { Layout } from './layout.js'
import type { Programs } from './programs.js'

/**
 * How long a start may take before it counts as failed. ovsdb-server reads all that was written since its file was last
 * compacted, and ovs-vswitchd opens thousands of ports: on a busy machine each may need many seconds.
 */
const readyWithinMs = 60_000

/** Serves conf.db on the layout's socket; resolves when the database answers. */
export async function startOvsdbServer(layout: Layout, programs: Programs, signal: AbortSignal): Promise<Child> {
  signal.throwIfAborted()
  const child = await startChild({
    name: 'ovsdb-server',
    files: layout.ovsdbServer,
    directory: layout.directory,
    setpriv: programs.setpriv,
    program: programs.ovsdbServer,
    args: [layout.database, `--remote=punix:${layout.databaseSocket}`],
  })
  await whenReady(child, readyWithinMs, signal, async either => {
    await answers(layout.databaseSocket, 'list_dbs', either)
    await answers(layout.ovsdbServer.control, 'version', either)
  })
  return child
}

/** Runs ovs-vswitchd on the served database; resolves when it has put the whole configuration into effect. */
export async function startVswitchd(layout: Layout, programs: Programs, signal: AbortSignal): Promise<Child> {
  const epoch = await requestEpoch(layout.databaseSocket, signal)
  const child = await startChild({
    name: 'ovs-vswitchd',
    files: layout.vswitchd,
    directory: layout.directory,
    setpriv: programs.setpriv,
    program: programs.vswitchd,
    args: [`unix:${layout.databaseSocket}`],
  })
  await whenReady(child, readyWithinMs, signal, either => epochReached(layout.databaseSocket, epoch, either))
  return child
}

/** Ends ovsdb-server. */
export function stopOvsdbServer(child: Child): Promise<{ readonly clean: boolean }> {
  return stopChild(child, { exitArgs: [], exitMs: 3000, termMs: 2000 })
}

/** Ends ovs-vswitchd together with its datapath and devices, which it removes one by one, each with a grace period of RCU. */
export function stopVswitchd(child: Child): Promise<{ readonly clean: boolean }> {
  return stopChild(child, { exitArgs: ['--cleanup'], exitMs: 20_000, termMs: 2000 })
}

/** Calls until the peer is there to reply. */
async function answers(socketPath: string, method: string, signal: AbortSignal): Promise<void> {
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 16)) {
    try {
      await callJsonRpc(socketPath, method, [], signal)
      return
    } catch (error) {
      signal.throwIfAborted()
      if (!notYetCodes.has(codeOf(error) ?? '')) throw error
      await sleep(pauseMs, signal)
    }
  }
}

/** What connect(2) says of a socket that is not made yet, or was left by a dead process. */
const notYetCodes = new Set(['ENOENT', 'ECONNREFUSED'])
