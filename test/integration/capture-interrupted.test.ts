import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import type { Worker } from 'node:worker_threads'
import {
  type CapturingTestbed,
  nothingIsLeft,
  ofBridge,
  ofTap,
  startCapture,
  startCapturing,
} from '../support/captured.js'
import { openDescriptors, packetSockets, withoutDescriptors } from '../support/descriptors.js'
import { laneTest } from '../support/lane.js'
import { createVethPair } from '../support/links.js'
import { refusalOf } from '../support/refusal.js'
import { blankTap } from '../support/rpc.js'
import { until, within } from '../support/until.js'

const inside = { only: 'userspace', looksInside: true } as const

/** Waits until a start has come to its port: its file is made just before. */
async function portIsAsked({ directory }: CapturingTestbed): Promise<void> {
  await until('the file is there', () => readdirSync(directory).length === 1)
}

/** Waits until neither a file nor a port nor a place of a start is left: one capture is all that there may be. */
async function startIsUndone(bed: CapturingTestbed): Promise<void> {
  const { api, directory } = bed
  await nothingIsLeft(bed)
  assert.deepEqual(readdirSync(directory), [])
  assert.deepEqual((await api.listCaptures()).captures, [])
  const id = await until('the place is free', () => startCapture(api, { ...ofTap('one'), fileName: 'next' }))
  await api.stopCapture({ id })
}

laneTest('a capture of a bridge whose caller leaves while it gets its port is undone', {}, async context => {
  await using bed = await startCapturing(context.signal, '--max-captures', '1')
  const { api } = bed
  await api.createTap({ tap: 'one' })
  bed.ovs.vswitchd.stop()
  const caller = new AbortController()
  const starting = refusalOf('the capture', api.startCapture(ofBridge('br0'), { signal: caller.signal }))
  await portIsAsked(bed)
  caller.abort()
  assert.equal((await starting).code, 'CANCELLED')
  bed.ovs.vswitchd.continue()
  await startIsUndone(bed)
})

laneTest('a capture whose bridge is destroyed while it gets its port is refused and undone', {}, async context => {
  await using bed = await startCapturing(context.signal, '--max-captures', '1')
  const { api } = bed
  await api.createTap({ tap: 'one' })
  await api.ensureBridge({ bridge: 'lab' })
  bed.ovs.vswitchd.stop()
  const starting = api.startCapture(ofBridge('lab'))
  await portIsAsked(bed)
  const destroying = api.destroyBridge({ bridge: 'lab' })
  bed.ovs.vswitchd.continue()
  const refused = await refusalOf('the capture', starting)
  assert.deepEqual([refused.code, refused.message], ['ABORTED', 'the bridge lab was destroyed'])
  await destroying
  await startIsUndone(bed)
})

laneTest('captures whose callers leave while they are being opened are undone', inside, async context => {
  await using bed = await startCapturing(context.signal)
  const { api, directory } = bed
  await api.createTap({ tap: 'one' })
  await api.stopCapture({ id: await startCapture(api, { ...ofTap('one'), fileName: '0' }) })
  const before = openDescriptors()
  const callers = new AbortController()
  const names = Array.from({ length: 50 }, (_, i) => String(i + 1))
  const calls = names.map(fileName => api.startCapture({ ...ofTap('one'), fileName }, { signal: callers.signal }))
  await Promise.any(calls)
  callers.abort()
  const outcomes = await Promise.allSettled(calls)
  assert(outcomes.some(({ status }) => status === 'rejected'))
  await until('each file is of a capture', async () => {
    const { captures } = await api.listCaptures()
    return String(captures.map(({ fileName }) => fileName).sort()) === String(readdirSync(directory).sort())
  })
  await api.stopAllCaptures()
  await until('no descriptor is left', () => openDescriptors() <= before)
})

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

laneTest('a stream ends also without a tap that went while it was being opened', inside, async context => {
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  const taps = Array.from({ length: 16 }, (_, i) => `t${i}`)
  await api.createTaps({ taps: taps.map(tap => ({ ...blankTap, tap })) })
  // Its device stays.
  createVethPair({ name: 'theirs' }, { name: 'eth0' }, bed.createContainer())
  await api.addTap({ tap: 'theirs' })
  const before = packetSockets()
  const stream = bed.use(api.streamCapture({ taps: [...taps, 'theirs'] }))
  const first = stream.next('the headers')
  await until('its devices are being opened', () => packetSockets() > before, { everyMs: 0 })
  await api.destroyTap({ tap: 'theirs' })
  await first
  await api.destroyBridge({ bridge: 'br0' })
  await assert.rejects(async () => {
    for (;;) await stream.next('more, or the end')
  }, /the server ended the stream/)
})

laneTest('where no descriptor is to be had nothing is captured, and later it is', inside, async context => {
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  await api.createTap({ tap: 'one' })
  // It asks libpcap, which then is loaded: that takes a descriptor too.
  await api.checkOvs()
  const before = openDescriptors()
  const stream = bed.use(api.streamCapture({ taps: ['one'] }))
  {
    using _none = withoutDescriptors()
    const refused = await refusalOf('a stream', stream.next())
    assert.deepEqual([refused.code, refused.reason], ['RESOURCE_EXHAUSTED', 'EXHAUSTED'])
  }
  assert(openDescriptors() <= before)
  await startCapture(api, ofTap('one'))
})
