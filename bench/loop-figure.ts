import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isMainThread } from 'node:worker_threads'
import type { DaemonOptions } from '../test/support/daemon-process.js'
import { until } from '../test/support/until.js'

/** Something about the main thread's event loop of a daemon, measured inside it by a module that is loaded before the daemon. */
export interface LoopFigure extends Disposable {
  /** With which a daemon is started. */
  readonly options: Pick<DaemonOptions, 'nodeFlags' | 'env'>
  /** Runs `work`; resolves to its result, and to what the figure came to meanwhile, in milliseconds. */
  whileMeasured<T>(pid: number, work: () => Promise<T>): Promise<{ readonly result: T; readonly ms: number }>
}

const fileVariable = 'BENCH_LOOP_FIGURE'

/** `module` is a file beside this one, which calls {@link measureOnSignal}. */
export function loopFigure(module: 'loop-delay' | 'loop-turns'): LoopFigure {
  const scratch = mkdtempSync(join(tmpdir(), 'loop-figure-'))
  const file = join(scratch, 'figure')
  const signalled = async (pid: number) => {
    rmSync(file, { force: true })
    process.kill(pid, 'SIGUSR2')
    return await until('the daemon to answer the signal', () => /^(.+)\n$/.exec(readFileSync(file, 'utf8'))?.[1])
  }
  return {
    options: {
      nodeFlags: ['--import', new URL(`${module}.js`, import.meta.url).href],
      env: { [fileVariable]: file },
    },
    whileMeasured: async (pid, work) => {
      await signalled(pid)
      const result = await work()
      return { result, ms: Number(await signalled(pid)) }
    },
    [Symbol.dispose]: () => rmSync(scratch, { recursive: true }),
  }
}

/**
 * In the daemon: SIGUSR2 begins a measurement, and the next one ends it. Each is answered in the file that BENCH_LOOP_FIGURE
 * names, the second with what `begin()()` gives.
 */
export function measureOnSignal(begin: () => () => number): void {
  const file = process.env[fileVariable]
  if (!isMainThread || file === undefined) return
  let end: (() => number) | undefined
  process.on('SIGUSR2', () => {
    const answer = end === undefined ? 'begun' : String(end())
    end = end === undefined ? begin() : undefined
    writeFileSync(file, `${answer}\n`)
  })
}
