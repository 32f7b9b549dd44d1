import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hasPackets, ofBridge, ofTap, startCapture, tcpdumpHex, testFrame } from '../support/captured.js'
import { spawnDaemon } from '../support/daemon-process.js'
import { type FrameSocket, openTap } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { linkNames } from '../support/namespace.js'
import { type Api, connectTo } from '../support/rpc.js'
import { startTestbed, type Testbed } from '../support/testbed.js'
import { until } from '../support/until.js'

/** The processes of captures that are killed and stopped: a daemon of its own, on a state directory that outlives it. */
const options = { timeoutMs: 120_000 } as const

async function capturePortsOf(bed: Testbed): Promise<number> {
  const ports = (await bed.ovs.select('Port')).filter(row => String(row['name']).startsWith('cap-'))
  return (
    ports.length + (await bed.ovs.select('Mirror')).length + linkNames().filter(name => name.startsWith('cap-')).length
  )
}

/** Has packets in both files; gives the ids. */
async function captureBoth(api: Api, from: FrameSocket, run: string): Promise<readonly number[]> {
  const tap = await startCapture(api, { ...ofTap('one'), fileName: `${run}-tap` })
  const bridge = await startCapture(api, { ...ofBridge('br0'), fileName: `${run}-bridge` })
  for (const id of [tap, bridge]) {
    await until('a packet is in its file', async () => {
      from.send(testFrame(id, 100))
      return await hasPackets(api, id, 1).catch(() => false)
    })
  }
  return [tap, bridge]
}

for (const [run, signal] of [
  ['killed', 'SIGKILL'],
  ['stopped', 'SIGTERM'],
] as const) {
  laneTest(
    `after a daemon was ${run} its files are readable, and the next leaves no mirror or port`,
    run === 'killed' ? options : { ...options, only: 'userspace' },
    async context => {
      await using bed = await startTestbed(context.signal)
      const state = mkdtempSync(join(tmpdir(), 'state-'))
      bed.use({ [Symbol.dispose]: () => rmSync(state, { recursive: true }) })
      const flags = ['--default-bridge', 'br0']
      const first = bed.use(await spawnDaemon(bed.ovs, { stateDir: state, flags }))
      const before = bed.use(connectTo(first.address))
      await before.api.ensureBridge()
      await before.api.createTap({ tap: 'one' })
      const one = bed.use(openTap('one'))
      const ids = await captureBoth(before.api, one, run)
      const ended = await first.end(signal)
      assert.equal(ended, run === 'killed' ? 'SIGKILL' : 0)
      if (run === 'stopped') assert.equal(await capturePortsOf(bed), 0)
      else assert.notEqual(await capturePortsOf(bed), 0)
      for (const target of ['tap', 'bridge']) {
        const hex = await tcpdumpHex(context.signal, join(state, 'captures', `${run}-${target}`))
        assert(
          hex.some(packet => packet.slice(24, 28) === '88b5'),
          target,
        )
      }

      const second = bed.use(await spawnDaemon(bed.ovs, { stateDir: state, flags }))
      const after = bed.use(connectTo(second.address))
      assert.equal(await capturePortsOf(bed), 0)
      assert.equal(await startCapture(after.api, ofTap('one')), Math.max(...ids) + 1)
    },
  )
}
