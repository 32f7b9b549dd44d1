import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { nothingIsLeft, ofBridge, ofTap, startCapture, startCapturing } from '../support/captured.js'
import { laneTest } from '../support/lane.js'
import { stateOf } from '../support/refusal.js'
import type { Api } from '../support/rpc.js'

/** By several callers, so that nobody waits for anybody's closing. */
async function startAndStop(api: Api, target: Parameters<typeof startCapture>[1], times: number): Promise<void> {
  let left = times
  const caller = async () => {
    while (left-- > 0) await api.stopCapture({ id: await startCapture(api, target) })
  }
  await Promise.all(Array.from({ length: 8 }, caller))
}

laneTest(
  'a thousand captures leave no descriptor, memory, device or mirror behind',
  { looksInside: true, timeoutMs: 300_000 },
  async context => {
    const T0 = performance.now()
    await using bed = await startCapturing(context.signal)
    const { api, directory } = bed
    await api.createTap({ tap: 'one' })
    console.log('setup', performance.now() - T0)
    await startAndStop(api, ofTap('one'), 20)
    await startAndStop(api, ofBridge('br0'), 5)
    const before = { descriptors: readdirSync('/proc/self/fd').length, memory: process.memoryUsage().rss }
    const { links } = await stateOf(bed)
    console.log('warm', performance.now() - T0)
    await startAndStop(api, ofTap('one'), 970)
    console.log('taps', performance.now() - T0)
    await startAndStop(api, ofBridge('br0'), 30)
    console.log('bridges', performance.now() - T0)
    const after = { descriptors: readdirSync('/proc/self/fd').length, memory: process.memoryUsage().rss }
    assert(after.descriptors <= before.descriptors, `${before.descriptors} descriptors, then ${after.descriptors}`)
    // A single ring is 4 MiB, and a buffer 1 MiB.
    const grownMib = (after.memory - before.memory) / 2 ** 20
    console.log('MiB', grownMib)
    assert(grownMib < 200, `${grownMib} MiB more`)
    assert.deepEqual((await stateOf(bed)).links, links)
    await nothingIsLeft(bed)
    assert.equal(readdirSync(directory).length, 1_025)
    assert.equal((await api.listCaptures()).captures.length, 1_000)
    console.log('end', performance.now() - T0)
  },
)
