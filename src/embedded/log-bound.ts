import { renameSync, statSync } from 'node:fs'
import { callJsonRpc } from '../lib/json-rpc.js'
import type { ProcessFiles } from './layout.js'

const maxLogBytes = 4 * 1024 * 1024
const checkEveryMs = 60_000

/** Keeps each log and one former log at about 4 MiB, checked once a minute (vlog/reopen, ovs-appctl(8)). */
export function boundLogs(logs: readonly ProcessFiles[]): Disposable {
  const check = (): void => {
    for (const files of logs) boundLog(files)
  }
  check()
  const timer = setInterval(check, checkEveryMs).unref()
  return { [Symbol.dispose]: () => clearInterval(timer) }
}

function boundLog(files: ProcessFiles): void {
  try {
    if (statSync(files.log).size < maxLogBytes) return
    renameSync(files.log, `${files.log}.1`)
  } catch {
    return // not there, so not too large
  }
  // A process that does not answer now reopens its log when it starts again.
  callJsonRpc(files.control, 'vlog/reopen', [], AbortSignal.timeout(1000)).catch(() => {})
}
