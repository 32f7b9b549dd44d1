import assert from 'node:assert/strict'
import type { Worker } from 'node:worker_threads'
import { ofTap, startCapture, startCapturing } from '../support/captured.js'
import { packetSockets } from '../support/descriptors.js'
import { laneTest } from '../support/lane.js'
import { refusalOf } from '../support/refusal.js'
import { blankTap } from '../support/rpc.js'
import { until, within } from '../support/until.js'

const inside = { only: 'userspace', looksInside: true } as const

laneTest('what a thread was opening when it died is given back', inside, async context => {
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  const taps = Array.from({ length: 16 }, (_, i) => `t${i}`)
  await api.createTaps({ taps: taps.map(tap => ({ ...blankTap, tap })) })
  const before = packetSockets()
  const started = new Promise<Worker>(resolve => process.once('worker', resolve))
  const first = bed.use(api.streamCapture({ taps: ['t0'] }))
  await first.next('the headers')
  const worker = await started
  const second = refusalOf('the second stream', bed.use(api.streamCapture({ taps })).next())
  await until('its devices are being opened', () => packetSockets() > before + 1, { everyMs: 0 })
  await within('the end of the thread', 20_000, worker.terminate())
  assert.equal((await second).code, 'ABORTED')
  await until('no socket is left', () => packetSockets() === before)
  await startCapture(api, ofTap('t0'))
})
