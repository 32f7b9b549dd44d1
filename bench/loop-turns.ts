/**
 * For `node --import`: the longest turn of the main thread's event loop, in processor time of that thread. What other threads
 * and other processes do meanwhile does not count: it is what the work itself would hold up a call by.
 */
import koffi from 'koffi'
import { measureOnSignal } from './loop-figure.js'

/** clock_gettime(2), <linux/time.h> */
const CLOCK_THREAD_CPUTIME_ID = 3

/** Loaded when it is needed: the daemon configures koffi before it loads anything. */
function threadClock(): () => number {
  const clockGettime = koffi.load('libc.so.6').func('int clock_gettime(int, _Out_ int64_t *)')
  const timespec = new BigInt64Array(2)
  return () => {
    clockGettime(CLOCK_THREAD_CPUTIME_ID, timespec)
    return Number(timespec[0]) * 1e3 + Number(timespec[1]) / 1e6
  }
}

measureOnSignal(() => {
  const cpuMs = threadClock()
  let longestMs = 0
  let lastMs = cpuMs()
  const look = () => {
    const nowMs = cpuMs()
    longestMs = Math.max(longestMs, nowMs - lastMs)
    lastMs = nowMs
    next = setImmediate(look)
  }
  let next = setImmediate(look)
  return () => {
    clearImmediate(next)
    return longestMs
  }
})
