/** For `node --import`: by how much the main thread's event loop is late, the 99th percentile. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { measureOnSignal } from './loop-figure.js'

const resolutionMs = 1

measureOnSignal(() => {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs })
  histogram.enable()
  return () => {
    histogram.disable()
    return Math.max(histogram.percentile(99) / 1e6 - resolutionMs, 0)
  }
})
