import { readFileSync } from 'node:fs'
import { banner } from './banner.js'
import type { Config } from './config.js'
import { type Daemon, startDaemon } from './daemon.js'
import { abortScope, shuttingDown, whenAborted } from './lib/abort.js'
import { createLog, tellEnd } from './log/index.js'
import { openNotifier } from './systemd/index.js'

/** Runs the daemon until a signal tells it to stop, and resolves to the exit code. */
export async function serve(config: Config, version: string): Promise<number> {
  using stop = abortScope()
  // However often: a terminal and npm each pass Ctrl-C on, and a second one must not cut the first one's work short.
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => stop.abort(shuttingDown()))
  const log = createLog(config.logLevel)
  tellEnd(log)
  using notifier = openNotifier(process.env, process.pid)
  let daemon: Daemon
  try {
    if (!hasNetAdmin()) throw new Error('network devices are made by root (CAP_NET_ADMIN); start it as root')
    daemon = await startDaemon(config, log, version, stop.signal)
  } catch (error) {
    if (stop.signal.aborted) return 0
    process.stderr.write(`ovs-bridged cannot start: ${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  }
  // Who started it may have left, or a disk be full: the service is there all the same.
  process.stdout.on('error', () => {})
  process.stdout.write(banner({ ...daemon, version }))
  notifier.notify('READY=1', `STATUS=serves on ${daemon.addresses.join(', ')}`)
  const { watchdogMs } = notifier
  // A timer of the main thread: it stays away when that hangs.
  const watchdog =
    watchdogMs === undefined ? undefined : setInterval(() => notifier.notify('WATCHDOG=1'), watchdogMs / 3)
  const stopped = new Promise<undefined>(resolve => whenAborted(stop.signal, () => resolve(undefined)))
  const failure = await Promise.race([stopped, daemon.failed])
  // Not as `cannot start`: who reads standard error may be stuck by now.
  if (failure !== undefined) log.fatal({ why: failure.message }, 'cannot go on')
  notifier.notify('STOPPING=1', 'STATUS=lets running calls finish')
  log.info({ drainTimeoutMs: config.drainTimeoutMs }, 'stopping')
  await daemon[Symbol.asyncDispose]()
  clearInterval(watchdog)
  return failure === undefined ? 0 : 1
}

/** Whether this process has the capability effectively; proc_pid_status(5), capabilities(7). */
function hasNetAdmin(): boolean {
  const capNetAdmin = 12n
  const effective = /^CapEff:\s*([\da-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return ((BigInt(`0x${effective}`) >> capNetAdmin) & 1n) === 1n
}
