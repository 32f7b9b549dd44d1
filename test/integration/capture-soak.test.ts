import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { CreateTapRequest } from '../../src/gen/ovs/bridge/v1/tap.js'
import {
  type CapturingTestbed,
  hasPackets,
  nothingIsLeft,
  ofBridge,
  ofTap,
  readPcap,
  startCapture,
  startCapturing,
  testFrame,
} from '../support/captured.js'
import { type FrameSocket, openTap } from '../support/frame-socket.js'
import { lane, laneTest } from '../support/lane.js'
import { stateOf } from '../support/refusal.js'
import { until } from '../support/until.js'

const taps = Array.from({ length: 8 }, (_, i) => `t${i}`)
/** Of the user-mode kernel `npm run test:all` asks as many as of this one. */
const rounds = Number(process.env['OVS_BRIDGED_TEST_CAPTURE_ROUNDS'] ?? (lane === 'userspace' ? 20 : 6))
/** Fifty: six of each tap, and two of the bridge. */
const targets = [...Array.from({ length: 6 }, () => taps.map(ofTap)).flat(), ofBridge('br0'), ofBridge('br0')]

/** Fifty captures at once, and their end; meanwhile one tap sends to all. */
async function captureFifty(
  { api, directory }: CapturingTestbed,
  sender?: FrameSocket,
  frames: readonly Buffer[] = [],
): Promise<void> {
  const ids = await Promise.all(targets.map(target => startCapture(api, target)))
  for (const frame of frames) sender?.send(frame)
  if (frames.length > 0) for (const id of ids) await hasPackets(api, id, frames.length)
  const { captures } = await api.stopAllCaptures()
  assert.deepEqual(
    captures.map(({ id }) => id),
    ids.sort((a, b) => a - b),
  )
  if (frames.length === 0) return
  for (const { fileName, droppedPackets } of captures) {
    const packets = readPcap(join(directory, fileName)).map(({ bytes }) => bytes.toString('hex'))
    assert.deepEqual(packets.sort(), frames.map(frame => frame.toString('hex')).sort(), fileName)
    assert.equal(droppedPackets, 0n)
  }
}

/** What the process holds; proc(5). */
function held(): { readonly descriptors: number; readonly memoryKib: number; readonly mappedKib: number } {
  const status = readFileSync('/proc/self/status', 'utf8')
  const ofKib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1])
  return {
    descriptors: readdirSync('/proc/self/fd').length,
    memoryKib: ofKib('VmRSS'),
    mappedKib: ofKib('VmSize'),
  }
}

laneTest(
  `fifty captures at once each have every frame, and ${rounds * targets.length} leave no descriptor, memory, device or mirror behind`,
  { isLong: true, looksInside: true, timeoutMs: 300_000 },
  async context => {
    await using bed = await startCapturing(context.signal)
    const { api, directory } = bed
    await api.createTaps({ taps: taps.map(tap => CreateTapRequest.fromPartial({ tap })) })
    const frames = Array.from({ length: 100 }, (_, i) => testFrame(i, 100))
    // Where nobody has the other end of a tap open, the switch sends nothing.
    const [sender] = taps.map(tap => bed.use(openTap(tap)))
    await captureFifty(bed, sender, frames)
    const before = held()
    const { links } = await stateOf(bed)
    for (let round = 1; round < rounds; round++) await captureFifty(bed)
    await until('no more descriptors are open', () => held().descriptors <= before.descriptors)
    const after = held()
    // A single ring is 4 MiB, and a buffer 1 MiB, of which an idle capture touches little.
    const grownMib = (after.memoryKib - before.memoryKib) / 1024
    const mappedMib = (after.mappedKib - before.mappedKib) / 1024
    assert(grownMib < 200 && mappedMib < 400, `${grownMib} MiB more, and ${mappedMib} MiB of addresses`)
    assert.deepEqual((await stateOf(bed)).links, links)
    await nothingIsLeft(bed)
    assert.equal(readdirSync(directory).length, rounds * targets.length)
    assert.equal((await api.listCaptures()).captures.length, rounds * targets.length)
  },
)
