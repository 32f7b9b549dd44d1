import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { abortScope, cancelled, raceAbort } from '../lib/abort.js'
import { callJsonRpc, JsonRpcError } from '../lib/json-rpc.js'
import { EmbeddedError, type Exit, type ProcessName } from './errors.js'
import type { ProcessFiles } from './layout.js'

/** A process of ours that was spawned and may have ended since. */
export interface Child {
  readonly name: ProcessName
  readonly pid: number
  readonly files: ProcessFiles
  /** Resolves when the process has ended; never rejects. */
  readonly exited: Promise<Exit>
  /** The last it said on stderr, or else the last error in its log; one line, possibly empty. */
  lastWords(): string
  kill(signal: NodeJS.Signals): void
}

export interface ChildSpec {
  readonly name: ProcessName
  readonly files: ProcessFiles
  readonly directory: string
  readonly setpriv: string
  readonly program: string
  readonly args: readonly string[]
}

/** Spawns it; rejects when it cannot be executed. Readiness is {@link whenReady}'s affair. */
export async function startChild(spec: ChildSpec): Promise<Child> {
  const { name, files, directory } = spec
  const common = [`--pidfile=${files.pidfile}`, `--unixctl=${files.control}`, `--log-file=${files.log}`]
  const quiet = ['-vconsole:off', '-vsyslog:off', '-vfile:info']
  // PR_SET_PDEATHSIG, see prctl(2): a daemon that is killed must not leave the two processes behind.
  const wrapped = ['--pdeathsig', 'KILL', '--', spec.program, ...spec.args, ...common, ...quiet]
  const child = spawn(spec.setpriv, wrapped, {
    cwd: directory,
    // The per-bridge sockets (<bridge>.mgmt, <bridge>.snoop) go where OVS_RUNDIR says.
    env: { ...process.env, OVS_RUNDIR: directory, OVS_LOGDIR: directory, OVS_DBDIR: directory },
    stdio: ['ignore', 'ignore', 'pipe'],
    // A session of its own: Ctrl-C is for us, who then stop it with its devices cleaned up.
    detached: true,
  })
  let stderr = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-maxStderrChars)
  })
  const exited = new Promise<Exit>(resolve => {
    child.once('close', (status, signal) => {
      resolve(signal === null ? { kind: 'status', status: status ?? -1 } : { kind: 'signal', signal })
    })
  })
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', reject)
  })
  // After 'spawn' an 'error' can only mean a signal that was not delivered.
  child.on('error', () => {})
  const { pid } = child
  if (pid === undefined) throw new Error('a spawned process has a pid')
  return {
    name,
    pid,
    files,
    exited,
    lastWords: () => lastLine(stderr) || lastLoggedError(files.log),
    kill: signal => {
      child.kill(signal)
    },
  }
}

const maxStderrChars = 4096

/**
 * Waits for `ready`, at most `withinMs`. The process's end and the deadline are {@link EmbeddedError}s; in every
 * failing case the process has been killed and has ended before this rejects.
 */
export async function whenReady(
  child: Child,
  withinMs: number,
  signal: AbortSignal,
  ready: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const scope = abortScope({ deadline: Date.now() + withinMs, parents: [signal] })
  try {
    const exit = await Promise.race([ready(scope.signal), child.exited])
    if (exit === undefined) return
    throw new EmbeddedError({ kind: 'exited', process: child.name, exit, lastWords: child.lastWords() })
  } catch (error) {
    child.kill('SIGKILL')
    await child.exited
    if (signal.aborted || !scope.signal.aborted) throw error
    const lastWords = child.lastWords()
    throw new EmbeddedError({ kind: 'not-ready', process: child.name, withinMs, lastWords }, { cause: error })
  } finally {
    // What still waits for readiness gives up.
    scope.abort(cancelled())
  }
}

/** What a polite stop says over unixctl, and how long each step may take. */
export interface StopSpec {
  readonly exitArgs: readonly string[]
  readonly exitMs: number
  readonly termMs: number
}

/**
 * Ends the process: unixctl `exit`, then SIGTERM, then SIGKILL, each when the one before has not helped in time.
 * Resolves once it has ended, to whether it went by the first, which alone lets ovs-vswitchd take its devices along.
 */
export async function stopChild(child: Child, spec: StopSpec): Promise<{ readonly clean: boolean }> {
  const ended = child.exited.then(() => true)
  // Somebody may have stopped it; a stopped process answers nothing.
  child.kill('SIGCONT')
  const asked = callJsonRpc(child.files.control, 'exit', spec.exitArgs, AbortSignal.timeout(spec.exitMs))
  // A reply that is lost because it ended first is no refusal; a socket that is not there is one.
  const refused = asked.then(
    () => ended,
    (error: unknown) => (error instanceof JsonRpcError ? ended : false),
  )
  if (await endsWithin(Promise.race([ended, refused]), spec.exitMs)) {
    const exit = await child.exited
    return { clean: exit.kind === 'status' && exit.status === 0 }
  }
  child.kill('SIGTERM')
  if (!(await endsWithin(ended, spec.termMs))) child.kill('SIGKILL')
  await ended
  return { clean: false }
}

async function endsWithin(ended: Promise<boolean>, ms: number): Promise<boolean> {
  using scope = abortScope({ deadline: Date.now() + ms })
  return await raceAbort(ended, scope.signal).catch(() => false)
}

function lastLine(text: string): string {
  return text.trim().split('\n').at(-1) ?? ''
}

/** `<date>|<serial>|<module>|<level>|<message>`, see ovs-appctl(8), vlog. */
function lastLoggedError(log: string): string {
  try {
    const lines = readFileSync(log, 'utf8').split('\n')
    return lines.findLast(line => /\|(EMER|ERR)\|/.test(line))?.replace(/^.*\|(EMER|ERR)\|/, '') ?? ''
  } catch {
    return ''
  }
}
