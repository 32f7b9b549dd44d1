import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { abortScope } from '../lib/abort.js'
import { callJsonRpc } from '../lib/json-rpc.js'

const answerWithinMs = 1_000

/**
 * The process id of the ovs-vswitchd beside a database's socket, if it answers on its own control socket (ovs-appctl(8))
 * within 1 s. The database is neither asked nor changed, so that a stopped ovs-vswitchd is told from an idle one.
 */
export async function askVswitchd(databaseSocket: string, signal: AbortSignal): Promise<string | undefined> {
  const directory = dirname(databaseSocket)
  const pid = (await readFile(join(directory, 'ovs-vswitchd.pid'), 'utf8').catch(() => '')).trim()
  using scope = abortScope({ deadline: Date.now() + answerWithinMs, parents: [signal] })
  const sockets = [`ovs-vswitchd.${pid}.ctl`, 'ovs-vswitchd.ctl'].map(name => join(directory, name))
  const answers = await Promise.allSettled(sockets.map(socket => callJsonRpc(socket, 'version', [], scope.signal)))
  signal.throwIfAborted()
  return answers.some(answer => answer.status === 'fulfilled') ? pid : undefined
}
