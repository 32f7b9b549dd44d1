import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { codeOf } from '../src/lib/thrown.js'

/** CPU time that all threads of a process have used: proc_pid_stat(5), in ticks of 10 ms. */
export function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ')
  return (Number(fields[11]) + Number(fields[12])) * 10
}

/** The same in nanoseconds, of the threads that are there: the first field of schedstat (sched-stats.rst of the kernel). */
export function threadsNs(pid: number): number {
  return readdirSync(`/proc/${pid}/task`).reduce((sum, thread) => sum + threadNs(pid, thread), 0)
}

function threadNs(pid: number, thread: string): number {
  try {
    return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0])
  } catch (error) {
    // It has ended since it was listed; what it has used is not told any more.
    if (!['ENOENT', 'ESRCH'].includes(codeOf(error) ?? '')) throw error
    return 0
  }
}

/** VmRSS of proc_pid_status(5). */
export function residentMib(pid: number): number {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kib) / 1024
}

/** Resolves once a process has used less than a tenth of a processor for a while; throws when it has not within 30 s. */
export async function untilAtRest(pid: number, signal: AbortSignal): Promise<void> {
  const windowMs = 50
  const deadlineMs = performance.now() + 30_000
  for (let usedMs = Number.POSITIVE_INFINITY; usedMs > windowMs / 10; ) {
    if (performance.now() > deadlineMs) throw new Error(`process ${pid} does not come to rest`)
    const beforeNs = threadsNs(pid)
    await sleep(windowMs, undefined, { signal })
    usedMs = (threadsNs(pid) - beforeNs) / 1e6
  }
}
