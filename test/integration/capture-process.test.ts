import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { hasPackets, ofBridge, ofTap, startCapture, tcpdumpHex, testFrame } from '../support/captured.js'
import { spawnDaemon } from '../support/daemon-process.js'
import { removePort } from '../support/foreign-port.js'
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

/** Whether a test frame is among the packets of the file. */
async function hasFrame(signal: AbortSignal, path: string): Promise<boolean> {
  return (await tcpdumpHex(signal, path)).some(packet => packet.slice(24, 28) === '88b5')
}

laneTest(
  'after a daemon was stopped or killed its files are readable, and the next leaves no mirror or port',
  options,
  async context => {
    await using bed = await startTestbed(context.signal)
    const state = mkdtempSync(join(tmpdir(), 'state-'))
    bed.use({ [Symbol.dispose]: () => rmSync(state, { recursive: true }) })
    const serve = async () => {
      const daemon = bed.use(await spawnDaemon(bed.ovs, { stateDir: state, flags: ['--default-bridge', 'br0'] }))
      return { daemon, api: bed.use(connectTo(daemon.address)).api }
    }
    const first = await serve()
    await first.api.ensureBridge()
    await first.api.createTap({ tap: 'one' })
    const one = bed.use(openTap('one'))
    await captureBoth(first.api, one, 'stopped')
    assert.equal(await first.daemon.end('SIGTERM'), 0)
    assert.equal(await capturePortsOf(bed), 0)

    const second = await serve()
    const ids = await captureBoth(second.api, one, 'killed')
    assert.deepEqual(ids, [3, 4])
    assert.equal(await second.daemon.end('SIGKILL'), 'SIGKILL')
    assert.notEqual(await capturePortsOf(bed), 0)
    for (const name of ['stopped-tap', 'stopped-bridge', 'killed-tap', 'killed-bridge'])
      assert(await hasFrame(context.signal, join(state, 'captures', name)), name)

    const third = await serve()
    // A start serves when what takes its time goes on.
    await until('no port of a capture is left', async () => (await capturePortsOf(bed)) === 0)
    assert.equal(await startCapture(third.api, ofTap('one')), 5)
  },
)

laneTest(
  'a capture that was killed leaves no mirror when somebody has removed its port meanwhile',
  { only: 'userspace' },
  async context => {
    await using bed = await startTestbed(context.signal)
    const { ovs } = bed
    const daemon = bed.use(await spawnDaemon(ovs, { flags: ['--default-bridge', 'br0'] }))
    const { api } = bed.use(connectTo(daemon.address))
    await api.ensureBridge()
    await api.startCapture(ofBridge('br0'))
    await daemon.end('SIGKILL')
    const port = (await ovs.select('Port')).find(({ name }) => String(name).startsWith('cap-'))
    await ovs.configure(removePort(port))
    const before = await ovs.select('Mirror')
    bed.use(await spawnDaemon(ovs))
    assert.deepEqual([before.length, await ovs.select('Mirror')], [1, []])
  },
)
