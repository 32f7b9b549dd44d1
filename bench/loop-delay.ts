/**
 * For `node --import`: measures by how much the main thread's event loop is late. SIGUSR2 begins anew; the next one writes the 99th
 * percentile, in milliseconds, to the file that BENCH_LOOP_DELAY names.
 */
import { writeFileSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'

if (isMainThread) {
  const resolutionMs = 1
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs })
  let measures = false
  process.on('SIGUSR2', () => {
    if (measures) {
      histogram.disable()
      const lateMs = histogram.percentile(99) / 1e6 - resolutionMs
      writeFileSync(process.env['BENCH_LOOP_DELAY'] ?? '/dev/null', String(Math.max(lateMs, 0)))
    } else {
      histogram.reset()
      histogram.enable()
    }
    measures = !measures
  })
}
