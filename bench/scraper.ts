/** The thread of a scraper: fetches a page every 250 ms and tells how many milliseconds each took, until it is ended. */
import { setTimeout as delay } from 'node:timers/promises'
import { parentPort, workerData } from 'node:worker_threads'

const url = String(workerData)
for (;;) {
  const startedAt = performance.now()
  await (await fetch(url)).arrayBuffer()
  parentPort?.postMessage(performance.now() - startedAt)
  await delay(250)
}
