import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { CaptureState } from '../../src/gen/ovs/bridge/v1/capture.js'
import { capinfos, digest, hasPackets, readPcap, startCapturing, tcpdumpHex, testFrame } from '../support/captured.js'
import { type FrameSocket, openTap } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { linkNames } from '../support/namespace.js'
import { stateOf } from '../support/refusal.js'
import type { Api } from '../support/rpc.js'

laneTest('a file holds exactly the frames of a tap, filtered and cut as asked', {}, async context => {
  await using bed = await startCapturing(context.signal)
  const { api, directory } = bed
  await api.createTap({ tap: 'one', vlan: 10, mtu: 9_000 })
  await api.createTap({ tap: 'two', vlan: 10, mtu: 9_000 })
  const one = bed.use(openTap('one'))
  const two = bed.use(openTap('two'))
  const wanted = {
    all: { snapLen: 65_535 },
    short: { snapLen: 60 },
    usual: {},
    proto: { filter: 'ether proto 0x88b6' },
    vlan: { filter: 'vlan 10' },
    untagged: { filter: 'ether proto 0x88b5 and not vlan', snapLen: 65_535 },
  }
  const target = { $case: 'tap', value: 'one' } as const
  const started = await Promise.all(
    Object.entries(wanted).map(([fileName, options]) => api.startCapture({ target, fileName, ...options })),
  )
  assert.deepEqual(
    started.map(({ capture }) => [capture?.state, capture?.packets]),
    started.map(() => [CaptureState.RUNNING, 0n]),
  )

  const sizes = [60, 61, 64, 128, 1_000, 1_500, 1_514, 2_000, 9_014]
  const plain = sizes.map((bytes, i) => testFrame(i, bytes))
  const other = [testFrame(20, 200, { etherType: 0x88b6 }), testFrame(21, 1_514, { etherType: 0x88b6 })]
  const tagged = [
    testFrame(30, 300, { vlan: 10 }),
    testFrame(31, 1_518, { vlan: 10 }),
    testFrame(32, 300, { vlan: 11 }),
  ]
  const back = [testFrame(40, 500, { source: 2 }), testFrame(41, 1_514, { source: 2 })]
  for (const frame of [...plain, ...other, ...tagged]) one.send(frame)
  for (const frame of back) {
    two.send(frame)
    await one.receive('a frame of the other tap', ({ bytes }) => bytes.equals(frame))
  }
  const stopped = await api.stopAllCaptures()
  assert.deepEqual(
    stopped.captures.map(({ state, endReason }) => [state, endReason]),
    started.map(() => [CaptureState.STOPPED, 'stopped by a call']),
  )

  const everything = [...plain, ...other, ...tagged, ...back]
  const expected: Record<keyof typeof wanted, readonly Buffer[]> = {
    all: everything,
    short: everything.map(frame => frame.subarray(0, 60)),
    usual: everything.map(frame => frame.subarray(0, 1_600)),
    proto: other,
    vlan: tagged.slice(0, 2),
    untagged: [...plain, ...back],
  }
  for (const [name, frames] of Object.entries(expected)) {
    const path = join(directory, name)
    const digests = frames.map(digest)
    assert.deepEqual(
      readPcap(path).map(({ bytes }) => digest(bytes)),
      digests,
      name,
    )
    assert.deepEqual(
      (await tcpdumpHex(context.signal, path)).map(hex => digest(Buffer.from(hex, 'hex'))),
      digests,
      name,
    )
    const capture = stopped.captures.find(({ fileName }) => fileName === name)
    assert.deepEqual([capture?.packets, capture?.droppedPackets], [BigInt(frames.length), 0n], name)
    assert.equal(capture?.fileBytes, BigInt(statSync(path).size))
    assert.equal(statSync(path).mode & 0o7777, 0o640)
  }
  assert.deepEqual(
    readPcap(join(directory, 'short')).map(({ originalBytes }) => originalBytes),
    everything.map(({ length }) => length),
  )
  const said = await capinfos(context.signal, join(directory, 'usual'))
  assert.equal(said.get('Number of packets'), String(everything.length))
  assert.equal(said.get('File timestamp precision'), 'nanoseconds (9)')
  assert.match(said.get('Packet size limit') ?? '', /: 1600 bytes$/)
})

/** Sends a frame again and again until a capture has one: the datapath goes on for a moment as it was. */
async function isSeen(api: Api, id: number, from: FrameSocket): Promise<void> {
  for (let attempt = 0; ; attempt++) {
    from.send(testFrame(attempt, 60, { etherType: 0x88b7, source: 9 }))
    try {
      await hasPackets(api, id, 1)
      return
    } catch (error) {
      if (attempt === 3) throw error
    }
  }
}

laneTest('a capture of a bridge has each forwarded frame once, with its tag, and leaves nothing', {}, async context => {
  await using bed = await startCapturing(context.signal)
  const { api, directory } = bed
  for (const [tap, vlan] of [
    ['red', 10],
    ['blue', 10],
    ['green', 20],
  ] as const)
    await api.createTap({ tap, vlan, mtu: 9_000 })
  const red = bed.use(openTap('red'))
  const blue = bed.use(openTap('blue'))
  const green = bed.use(openTap('green'))
  const before = await stateOf(bed)
  const taps = await api.listTaps()

  const target = { $case: 'bridge', value: 'br0' } as const
  const { capture } = await api.startCapture({ target, fileName: 'all', filter: 'vlan', snapLen: 65_535 })
  assert.deepEqual((await api.getBridge({ bridge: 'br0' })).bridge?.mirrors, [])
  assert.deepEqual(await api.listTaps(), taps)
  await isSeen(api, capture?.id ?? 0, green)

  const sent: Buffer[] = []
  const send = (from: FrameSocket, vlan: number, frame: Buffer) => {
    from.send(frame)
    const tag = Buffer.from([0x81, 0x00, vlan >> 8, vlan & 0xff])
    sent.push(Buffer.concat([frame.subarray(0, 12), tag, frame.subarray(12)]))
  }
  for (let i = 0; i < 5; i++) send(red, 10, testFrame(i, 100 + i, { source: 1 }))
  for (let i = 5; i < 10; i++) send(blue, 10, testFrame(i, 100 + i, { source: 2 }))
  // Known by now, so that it goes to the one port alone.
  const known = testFrame(10, 1_514, { source: 2 })
  known.writeUIntBE(0x020000000001, 0, 6)
  send(blue, 10, known)
  await red.receive('the frame that is for it', ({ bytes }) => bytes.equals(known))
  for (let i = 11; i < 15; i++) send(green, 20, testFrame(i, 1_514, { source: 3 }))
  send(red, 10, testFrame(15, 9_014, { source: 1 }))
  await hasPackets(api, capture?.id ?? 0, sent.length + 1)
  const ended = await api.stopCapture({ id: capture?.id ?? 0 })
  assert.deepEqual([ended.capture?.state, ended.capture?.endReason], [CaptureState.STOPPED, 'stopped by a call'])

  const hex = await tcpdumpHex(context.signal, join(directory, 'all'))
  const frames = hex.filter(packet => packet.slice(32, 36) === '88b5').map(packet => digest(Buffer.from(packet, 'hex')))
  assert.deepEqual(frames.sort(), sent.map(digest).sort())
  // Ids of captures are counted in the root row.
  const after = await stateOf(bed)
  assert.deepEqual(after.links, before.links)
  assert.deepEqual(await bed.ovs.select('Mirror'), [])
  assert.equal((await bed.ovs.select('Port')).length, 4)
  assert.deepEqual(
    linkNames().filter(name => name.startsWith('cap-')),
    [],
  )
})
