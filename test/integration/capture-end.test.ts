import assert from 'node:assert/strict'
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { type Capture, CaptureState } from '../../src/gen/ovs/bridge/v1/capture.js'
import {
  type CapturingTestbed,
  captureOf,
  digest,
  hasEnded,
  hasPackets,
  nothingIsLeft,
  ofBridge,
  ofTap,
  readPcap,
  startCapture,
  startCapturing,
  startCapturingOne,
  tcpdumpHex,
  testFrame,
} from '../support/captured.js'
import { type FrameSocket, openTap } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { changeLink, createVethPair, deleteLink, findLink } from '../support/links.js'
import { mountTmpfs } from '../support/mounts.js'
import { refusalOf } from '../support/refusal.js'
import type { Api } from '../support/rpc.js'
import { until, within } from '../support/until.js'

const userspace = { only: 'userspace' } as const

function endOf({ state, endReason }: Capture): readonly [CaptureState, string] {
  return [state, endReason]
}

/** The luckiest of some, whatever else the machine does. */
async function stopsIdleWithinMs(api: Api, tap: string): Promise<number> {
  let leastMs = Number.POSITIVE_INFINITY
  for (let i = 0; i < 5; i++) {
    const id = await startCapture(api, ofTap(tap))
    const startedAt = performance.now()
    await api.stopCapture({ id })
    leastMs = Math.min(leastMs, performance.now() - startedAt)
  }
  return leastMs
}

/** Has a capture fill the disk. */
async function fillDisk({ api, directory }: CapturingTestbed, from: FrameSocket, fileName: string): Promise<void> {
  const id = await startCapture(api, { ...ofTap('one'), fileName })
  const frames = Array.from({ length: 300 }, (_, i) => testFrame(i, 1_001))
  for (const [index, frame] of frames.entries()) {
    from.send(frame)
    // No faster than they are written, so that none is dropped on the way.
    if (index % 50 === 49) await until('they are written', () => hasReached(api, id, index + 1))
  }
  const ended = await hasEnded(api, id)
  assert.deepEqual(endOf(ended), [CaptureState.FAILED, 'the disk is full'])
  const path = join(directory, fileName)
  const packets = readPcap(path)
  assert(packets.length > 200, `${packets.length} packets`)
  assert.equal(ended.packets, BigInt(packets.length))
  assert.equal(ended.fileBytes, BigInt(statSync(path).size))
  assert.deepEqual(
    packets.map(({ bytes }) => digest(bytes)),
    frames.slice(0, packets.length).map(digest),
  )
}

async function hasReached(api: Api, id: number, packets: number): Promise<boolean> {
  const capture = await captureOf(api, id)
  return capture.endTime !== undefined || capture.packets >= BigInt(packets)
}

laneTest(
  'an idle capture stops at once, a full disk or the end of what it captures ends it with the reason, a link down does not',
  {},
  async context => {
    await using bed = await startCapturing(context.signal)
    const { api, directory } = bed
    bed.use(mountTmpfs(join(directory, 'small'), 256 * 1024))
    for (const tap of ['one', 'two', 'gone']) await api.createTap({ tap })
    await api.ensureBridge({ bridge: 'lab' })
    await api.createTap({ bridge: 'lab', tap: 'far' })
    const ids = {
      tap: await startCapture(api, ofTap('one')),
      gone: await startCapture(api, ofTap('gone')),
      far: await startCapture(api, ofTap('far')),
      bridge: await startCapture(api, ofBridge('lab')),
    }
    const one = bed.use(openTap('one'))
    const leastMs = await stopsIdleWithinMs(api, 'two')
    assert(leastMs < 200, `${leastMs} ms`)
    one.send(testFrame(0, 100))
    await hasPackets(api, ids.tap, 1)
    await fillDisk(bed, one, 'small/full')
    changeLink({ name: 'one', up: false })
    // Long enough for the capture to see it, and a stop would show.
    await until('the device is down', () => findLink('one')?.up === false)
    changeLink({ name: 'one', up: true })
    await until('a packet after it is up again', async () => {
      one.send(testFrame(1, 100))
      return (await captureOf(api, ids.tap)).packets > 1n
    })

    deleteLink(findLink('gone')?.index ?? 0)
    assert.deepEqual(endOf(await hasEnded(api, ids.gone)), [CaptureState.STOPPED, 'its device was removed'])
    await api.destroyTap({ tap: 'one' })
    const ended = await hasEnded(api, ids.tap)
    assert.deepEqual(endOf(ended), [CaptureState.STOPPED, 'the tap one was destroyed'])
    assert.equal(BigInt((await tcpdumpHex(context.signal, join(directory, ended.fileName))).length), ended.packets)
    await api.destroyBridge({ bridge: 'lab' })
    assert.deepEqual(endOf(await hasEnded(api, ids.bridge)), [CaptureState.STOPPED, 'the bridge lab was destroyed'])
    assert.deepEqual(endOf(await hasEnded(api, ids.far)), [CaptureState.STOPPED, 'the tap far was destroyed'])
    await nothingIsLeft(bed)
  },
)

laneTest('a capture ends with its tap, also where the device stays', userspace, async context => {
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  createVethPair({ name: 'theirs' }, { name: 'eth0' }, bed.createContainer())
  await api.addTap({ tap: 'theirs' })
  const id = await startCapture(api, ofTap('theirs'))
  await api.destroyTap({ tap: 'theirs' })
  assert.deepEqual(endOf(await hasEnded(api, id)), [CaptureState.STOPPED, 'the tap theirs was destroyed'])
  assert.notEqual(findLink('theirs'), undefined)
})

laneTest('a capture of a bridge goes on when ovs-vswitchd is started anew', userspace, async context => {
  await using bed = await startCapturingOne(context.signal)
  const { api, one } = bed
  const id = await startCapture(api, ofBridge('br0'))
  await bed.ovs.vswitchd.restart()
  await until('a packet after the restart', async () => {
    one.send(testFrame(0, 100))
    return (await captureOf(api, id)).packets > 0n
  })
})

laneTest(
  'a bridge is captured as often as Open vSwitch has mirrors for it, and not once more',
  userspace,
  async context => {
    await using bed = await startCapturing(context.signal)
    const { api, directory } = bed
    await api.createTap({ tap: 'one' })
    await api.createTap({ tap: 'two' })
    const one = bed.use(openTap('one'))
    const two = bed.use(openTap('two'))
    const started = await Promise.allSettled(Array.from({ length: 33 }, () => startCapture(api, ofBridge('br0'))))
    const ids = started.flatMap(outcome => (outcome.status === 'fulfilled' ? [outcome.value] : []))
    assert.equal(ids.length, 32)
    const beyond = {
      'one more capture': () => api.startCapture(ofBridge('br0')),
      'a stream': () => api.streamCapture({ bridge: 'br0' }).next(),
      'a mirror': () => api.createMirror({ source: 'one', destination: 'two' }),
    }
    for (const [what, asked] of Object.entries(beyond)) {
      const refused = await refusalOf(what, asked())
      assert.deepEqual([refused.code, refused.reason], ['RESOURCE_EXHAUSTED', 'EXHAUSTED'], what)
    }
    assert.equal((await bed.ovs.select('Mirror')).length, 32)
    assert.equal(readdirSync(directory).length, 32)
    // For one tap alone: a port without its mirror would see what is for all.
    two.send(testFrame(0, 100, { source: 2 }))
    const known = testFrame(1, 100)
    known.writeUIntBE(0x020000000002, 0, 6)
    const isIn = (name: string) => readPcap(join(directory, name)).some(({ bytes }) => bytes.equals(known))
    await until('the frame is in every file', () => {
      one.send(known)
      return readdirSync(directory).every(isIn)
    })
    await api.stopCapture({ id: ids[0] ?? 0 })
    await startCapture(api, ofBridge('br0'))
  },
)

laneTest('ending all captures goes on past one that cannot be ended', userspace, async context => {
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  await api.createTap({ tap: 'one' })
  const ids = [
    await startCapture(api, ofTap('one')),
    await startCapture(api, ofBridge('br0')),
    await startCapture(api, ofTap('one')),
  ]
  await bed.ovs.ovsdbServer.kill()
  // The port of the bridge's capture cannot be removed now.
  const refused = await refusalOf('ending all captures', api.stopAllCaptures({}, { timeoutMs: 1_500 }))
  assert.equal(refused.code, 'DEADLINE_EXCEEDED')
  for (const id of ids) assert.deepEqual(endOf(await captureOf(api, id)), [CaptureState.STOPPED, 'stopped by a call'])
  await bed.ovs.ovsdbServer.restart()
  await nothingIsLeft(bed)
})

/** The thread that captures is the next that this process starts. */
function nextWorker(): Promise<Worker> {
  return new Promise(resolve => process.once('worker', resolve))
}

laneTest(
  'captures whose thread dies have failed, and the next ones work',
  { ...userspace, looksInside: true },
  async context => {
    await using bed = await startCapturing(context.signal)
    const { api, directory } = bed
    for (const tap of ['one', 'two']) await api.createTap({ tap })
    const one = bed.use(openTap('one'))
    const descriptors = readdirSync('/proc/self/fd').length
    const worker = nextWorker()
    const ids = [await startCapture(api, ofTap('one')), await startCapture(api, ofBridge('br0'))]
    one.send(testFrame(0, 100))
    await hasPackets(api, ids[0] ?? 0, 1)
    const dead = (await worker).terminate()
    // It ends when it comes out of poll(2).
    one.send(testFrame(1, 100))
    await within('the end of the thread', 20_000, dead)
    for (const id of ids) {
      const ended = await hasEnded(api, id)
      assert.equal(ended.state, CaptureState.FAILED)
      assert.match(ended.endReason, /^the thread that captures is gone: /)
      readPcap(join(directory, ended.fileName))
    }
    await nothingIsLeft(bed)
    await until('no descriptor is left', () => readdirSync('/proc/self/fd').length <= descriptors)
    const again = await startCapture(api, ofTap('one'))
    one.send(testFrame(2, 100))
    await hasPackets(api, again, 1)
  },
)
