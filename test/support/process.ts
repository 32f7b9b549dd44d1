import { readFileSync } from 'node:fs'

/** Whether a process runs; one that only waits to be reaped by its parent does not (proc_pid_stat(5)). */
export function isAlive(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}
