import { linkSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { sleep } from '../lib/abort.js'
import { codeOf } from '../lib/thrown.js'
import { EmbeddedError, type ProcessName } from './errors.js'
import type { Layout } from './layout.js'

/**
 * Takes the directory for this process, or refuses with the pid of the live daemon that has it (`in-use`).
 * The claim of a dead daemon counts for nothing. Two daemons that find the same dead claim at once are told apart
 * by ovsdb-server, which locks conf.db.
 */
export function claimDirectory(layout: Layout): Disposable {
  const mine = processIdentity(process.pid)
  if (mine === undefined) throw new Error('/proc does not show this process')
  const draft = `${layout.claim}.${process.pid}`
  writeFileSync(draft, `${process.pid} ${mine}\n`)
  try {
    for (;;) {
      const holder = readClaim(layout.claim)
      if (holder !== undefined) {
        throw new EmbeddedError({ kind: 'in-use', directory: layout.directory, pid: holder })
      }
      rmSync(layout.claim, { force: true })
      // link(2) makes the claim appear with its text, and fails where another was quicker.
      if (succeeds(() => linkSync(draft, layout.claim), 'EEXIST')) break
    }
  } finally {
    rmSync(draft, { force: true })
  }
  return { [Symbol.dispose]: () => rmSync(layout.claim, { force: true }) }
}

/**
 * Kills what a dead daemon left running in the directory: a process that one of our pidfiles names, whose program and
 * command line are those we start. To be called under the claim.
 */
export async function killOrphans(layout: Layout, signal: AbortSignal): Promise<readonly number[]> {
  const orphans = [
    orphan('ovs-vswitchd', layout.vswitchd.pidfile),
    orphan('ovsdb-server', layout.ovsdbServer.pidfile),
  ].filter(pid => pid !== undefined)
  for (const pid of orphans) {
    succeeds(() => process.kill(pid, 'SIGKILL'), 'ESRCH')
  }
  // They are no children of ours: nothing tells when they are gone.
  while (orphans.some(pid => isRunning(pid))) await sleep(5, signal)
  return orphans
}

/**
 * The pid of an ovs-vswitchd that holds the userspace datapath's device in this thread's network namespace,
 * as proc_pid_fdinfo(5) shows it. One in a foreign pid namespace is not seen.
 */
export function datapathHolder(): number | undefined {
  const here = readlinkSync('/proc/thread-self/ns/net')
  const holder = readdirSync('/proc').find(
    entry =>
      /^\d+$/.test(entry) &&
      read(`/proc/${entry}/comm`)?.trim() === 'ovs-vswitchd' &&
      attempt(() => readlinkSync(`/proc/${entry}/ns/net`)) === here &&
      holdsDatapath(entry),
  )
  return holder === undefined ? undefined : Number(holder)
}

function holdsDatapath(pid: string): boolean {
  const descriptors = attempt(() => readdirSync(`/proc/${pid}/fdinfo`)) ?? []
  return descriptors.some(fd => /^iff:\tovs-netdev$/m.test(read(`/proc/${pid}/fdinfo/${fd}`) ?? ''))
}

function orphan(program: ProcessName, pidfile: string): number | undefined {
  const pid = Number.parseInt(read(pidfile) ?? '', 10)
  if (!(pid > 1)) return undefined
  const [executable = '', ...args] = (read(`/proc/${pid}/cmdline`) ?? '').split('\0')
  const ours = basename(executable) === program && args.includes(`--pidfile=${pidfile}`)
  return ours && isRunning(pid) ? pid : undefined
}

/** The live process that a claim names. */
function readClaim(path: string): number | undefined {
  const [pidText = '', ...identity] = (read(path) ?? '').trim().split(' ')
  const pid = Number.parseInt(pidText, 10)
  return pid > 0 && processIdentity(pid) === identity.join(' ') ? pid : undefined
}

/**
 * Tells a live process from a later one with its pid: the boot, and the start time in ticks (proc_pid_stat(5),
 * field 22). Undefined for a dead one, also while its parent has not reaped it.
 */
function processIdentity(pid: number): string | undefined {
  const stat = read(`/proc/${pid}/stat`)
  // Field 2 is the program's name in parentheses and may itself hold spaces and parentheses; 3 is the state.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ') ?? []
  const [state = 'X'] = fields
  if (state === 'Z' || state === 'X') return undefined
  const boot = read('/proc/sys/kernel/random/boot_id')?.trim() ?? '-'
  return `${boot} ${fields[19]}`
}

function isRunning(pid: number): boolean {
  return processIdentity(pid) !== undefined
}

function read(path: string): string | undefined {
  return attempt(() => readFileSync(path, 'utf8'))
}

function attempt<T>(action: () => T): T | undefined {
  try {
    return action()
  } catch {
    return undefined
  }
}

/** Runs `action`; false when it failed with just this errno. */
function succeeds(action: () => void, expected: string): boolean {
  try {
    action()
    return true
  } catch (error) {
    if (codeOf(error) === expected) return false
    throw error
  }
}
