import assert from 'node:assert/strict'
import { join } from 'node:path'
import { captureOf, ofBridge, ofTap, readPcap, startCapture, startCapturing, testFrame } from '../support/captured.js'
import { type FrameSocket, openTap } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import type { Api } from '../support/rpc.js'
import { until } from '../support/until.js'

/** Sends frames of a kind until a capture has one more packet: the datapath goes on for a moment as it was. */
async function isCaptured(api: Api, id: number, from: FrameSocket, etherType: number): Promise<void> {
  const { packets } = await captureOf(api, id)
  await until('a packet', async () => {
    from.send(testFrame(0, 100, { etherType }))
    return (await captureOf(api, id)).packets > packets
  })
}

laneTest('a tap that moves to another bridge and VLAN is captured on, there with its new tag', {}, async context => {
  await using bed = await startCapturing(context.signal)
  const { api, directory } = bed
  await api.ensureBridge({ bridge: 'lab' })
  await api.createTap({ tap: 'one', vlan: 10 })
  const one = bed.use(openTap('one'))
  const ids = {
    tap: await startCapture(api, { ...ofTap('one'), fileName: 'tap' }),
    from: await startCapture(api, { ...ofBridge('br0'), fileName: 'from', filter: 'vlan' }),
    to: await startCapture(api, { ...ofBridge('lab'), fileName: 'to', filter: 'vlan' }),
  }
  await isCaptured(api, ids.from, one, 0x88b5)
  await api.moveTap({ tap: 'one', bridge: 'lab', vlan: 20 })
  await isCaptured(api, ids.to, one, 0x88b6)
  await isCaptured(api, ids.tap, one, 0x88b6)
  await api.stopAllCaptures()
  // Bytes of the tag, and of the EtherType behind it.
  const kinds = (name: string) =>
    new Set(readPcap(join(directory, name)).map(({ bytes }) => bytes.toString('hex', 12, 18)))
  assert.deepEqual(kinds('from'), new Set(['8100000a88b5']))
  assert.deepEqual(kinds('to'), new Set(['8100001488b6']))
  const types = new Set(readPcap(join(directory, 'tap')).map(({ bytes }) => bytes.toString('hex', 12, 14)))
  assert.deepEqual(types, new Set(['88b5', '88b6']))
})
