import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Disposables } from '../../src/lib/disposables.js'
import { mainProgram } from './command.js'
import { confined, isConfined } from './confined.js'
import type { PrivateOvs } from './ovs.js'
import { patienceMs, within } from './until.js'

export interface DaemonOptions {
  /** Further flags of `serve`. */
  readonly flags?: readonly string[]
  /** Flags of Node.js itself, such as `--cpu-prof`. */
  readonly nodeFlags?: readonly string[]
  /** A command that runs it, and becomes it by exec: its words, before those of the daemon. */
  readonly through?: readonly string[]
  /** Variables beside those of the test. */
  readonly env?: Readonly<Record<string, string>>
  /** Descriptors that it finds from 3 on. */
  readonly fds?: readonly number[]
  /** Kept, for a daemon that is to find what one before it left; without it the daemon has one of its own. */
  readonly stateDir?: string
}

/** A daemon as a process of its own. */
export interface DaemonProcess extends AsyncDisposable {
  /** Where it serves, `unix:/…`. */
  readonly address: string
  readonly pid: number
  /** What it said on standard output so far. */
  readonly stdout: () => string
  /** What it said on standard error so far. */
  readonly stderr: () => string
  /** Its exit status, or the name of the signal that ended it. */
  readonly ended: Promise<number | string>
  /** Sends a signal; resolves as `ended` does. */
  end(signal: NodeJS.Signals): Promise<number | string>
}

/**
 * Runs the compiled daemon, for tests that kill one; on `ovs`, or with an Open vSwitch of its own, in the namespace the
 * test is in. Resolves when it has said that it serves. Disposing kills it.
 */
export async function spawnDaemon(ovs: PrivateOvs | 'embedded', options: DaemonOptions = {}): Promise<DaemonProcess> {
  const parts = new Disposables()
  try {
    const which = ovs === 'embedded' ? ['--embedded'] : ['--ovsdb', ovs.endpoint, '--datapath', ovs.datapathType]
    const { flags, address } = arrange(parts, which, options)
    const node = [process.execPath, ...(options.nodeFlags ?? []), mainProgram, 'serve', ...flags]
    // An Open vSwitch of its own is none of its unit's.
    const confinement = isConfined && ovs !== 'embedded' ? confined() : []
    const [program = '', ...args] = [...confinement, ...(options.through ?? []), ...node]
    const env = { ...process.env, ...options.env }
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe', ...(options.fds ?? [])] })
    if (child.stdout === null || child.stderr === null) throw new Error('a daemon without pipes')
    const ended = new Promise<number | string>(resolve => {
      child.once('close', (code, signal) => resolve(code ?? signal ?? ''))
    })
    parts.defer(async () => {
      child.kill('SIGKILL')
      await ended
    })
    let [stdout, stderr] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    await within(
      'a daemon that serves',
      2 * patienceMs,
      serving(child, ended, () => stderr),
    )
    return {
      address,
      pid: child.pid ?? 0,
      stdout: () => stdout,
      stderr: () => stderr,
      ended,
      end: signal => {
        child.kill(signal)
        return ended
      },
      [Symbol.asyncDispose]: () => parts[Symbol.asyncDispose](),
    }
  } catch (error) {
    await parts[Symbol.asyncDispose]()
    throw error
  }
}

/** A state directory and a socket of the test's own. */
function arrange(
  parts: Disposables,
  which: readonly string[],
  options: DaemonOptions,
): { readonly flags: readonly string[]; readonly address: string } {
  const own = mkdtempSync(join(tmpdir(), 'daemon-'))
  // The two processes of a daemon that was killed may still be dying in there.
  parts.defer(() => rmSync(own, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 }))
  const address = `unix:${join(own, 'rpc.sock')}`
  const stateDir = options.stateDir ?? join(own, 'state')
  const places = ['--listen', address, '--state-dir', stateDir, '--metrics-listen', '127.0.0.1:0']
  return { flags: [...which, ...places, ...(options.flags ?? [])], address }
}

/** Its standard output names what it listens on, once it does. */
async function serving(child: ChildProcess, ended: Promise<number | string>, stderr: () => string): Promise<void> {
  const { stdout } = child
  if (stdout === null) throw new Error('the daemon was spawned without a pipe')
  const lines = createInterface({ input: stdout })
  const said = new Promise<'serves'>(resolve => {
    lines.on('line', line => {
      if (line.includes('listens on')) resolve('serves')
    })
  })
  const first = await Promise.race([said, ended])
  if (first !== 'serves') throw new Error(`the daemon ended with ${first} before it served: ${stderr()}`)
}
