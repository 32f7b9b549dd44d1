import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { QosDirection } from '../../src/gen/ovs/bridge/v1/qos.js'
import { openKernel, parseLinkName } from '../../src/kernel/index.js'
import { openPacketSocket } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { createVethPair, deleteLink, findLink } from '../support/links.js'
import { plug } from '../support/plug.js'
import {
  deleteIngressQdisc,
  deleteRootQdisc,
  flood,
  hasIngressQdisc,
  policingOf,
  qosOf,
  setInRecord,
  timesRestored,
} from '../support/qos.js'
import { holdRate, received, sent } from '../support/rate.js'
import type { RpcError } from '../support/rpc.js'
import { type ServedTestbed, startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

const direction = QosDirection.FROM_ENDPOINT
const limited = [{ rate: '5mbit' }, { rate: '5mbit' }]

async function knowsPolice(bed: ServedTestbed): Promise<boolean | undefined> {
  const { dependencies } = await bed.api.checkOvs()
  return dependencies.find(({ name }) => name === 'act_police')?.present
}

/** The lane's own kernel loads the module here for the first time; on a host it may have been there before. */
async function showRefusalWithoutModule(bed: ServedTestbed): Promise<void> {
  if (existsSync('/sys/module/act_police')) return
  assert.equal(await knowsPolice(bed), false)
  await assert.rejects(bed.api.updateQos({ tap: 'red', direction, qos: { rate: '5mbit' } }), (error: RpcError) => {
    assert.deepEqual([error.code, error.reason], ['FAILED_PRECONDITION', 'UNSUPPORTED'])
    assert.match(error.message, /act_police/)
    return true
  })
  assert.deepEqual(await policingOf(bed, 'red'), [{}, {}])
  assert.equal(hasIngressQdisc('red'), false)
  const [row] = await bed.ovs.select('Interface', [['name', '==', 'red']])
  assert.equal(row?.['ingress_policing_rate'], 0)
  // A record from where there was the module. Nobody goes round in circles over it, and nobody forgets it.
  const nextCfg = async () => Number((await bed.ovs.select('Open_vSwitch', []))[0]?.['next_cfg'])
  const before = await nextCfg()
  await setInRecord(bed, 'red', 'policed-kbps', '5000')
  await until('it is told', async () => (await policingOf(bed, 'red'))[0]?.rate === '5mbit')
  // Long enough for a second attempt.
  await delay(2_500)
  assert.equal(await nextCfg(), before, 'ovs-vswitchd is not made to try in vain')
  execFileSync('modprobe', ['act_police'])
  await until('it is tried again', async () => (await policingOf(bed, 'red'))[1]?.rate === '5mbit', {
    deadlineMs: 60_000,
  })
}

/** Somebody makes the device of a tap anew while it is on its bridge. */
async function makeAnew(bed: ServedTestbed, tap: string): Promise<void> {
  await using kernel = await openKernel()
  const name = parseLinkName(tap)
  assert(name.ok)
  deleteLink(findLink(tap)?.index ?? 0)
  await kernel.createTaps([{ name: name.value, alias: findAlias(bed), multiQueue: false }], AbortSignal.timeout(30_000))
}

function findAlias({ service }: ServedTestbed): string {
  return `ovs-bridged:${service.daemon.host.instance}`
}

laneTest(
  'a rate from the endpoint is policed, read back, kept and put back; without the module it is refused',
  { isLong: true, only: 'kernel' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.ensureBridge({ bridge: 'br1' })
    const red = await plug(bed, 'red', '10.0.0.1/24')
    const blue = await plug(bed, 'blue', '10.0.0.2/24')
    await showRefusalWithoutModule(bed)
    assert.equal(await knowsPolice(bed), true)
    const restored = await timesRestored(bed, 'red')
    for (const rate of ['1mbit', '5mbit']) await bed.api.updateQos({ tap: 'red', direction, qos: { rate } })
    assert.deepEqual(await policingOf(bed, 'red'), limited)
    const wire = bed.use(red.run(() => openPacketSocket('veth0')))
    const show = async () => {
      await using _ = flood(wire, (5e6 * 1.7) / 8)
      await holdRate({ blue: received(blue) }, sent(red), 5e6, 4_000, 60_000)
    }
    await show()
    await bed.ovs.vswitchd.restart()
    await until('it is in force again', () => hasIngressQdisc('red'))
    await bed.api.moveTap({ tap: 'red', bridge: 'br1' })
    await bed.api.moveTap({ tap: 'blue', bridge: 'br1' })
    assert.deepEqual(await policingOf(bed, 'red'), limited)
    await show()
    await bed.api.removeTap({ tap: 'red' })
    await bed.api.addTap({ tap: 'red', bridge: 'br1' })
    assert.deepEqual(await policingOf(bed, 'red'), limited)
    assert.equal(await timesRestored(bed, 'red'), restored, 'nothing had to be put back')

    // ovs-vswitchd may do it by itself: it sets a policer anew after each event of the device.
    await until(
      'the service puts it back',
      async () => {
        deleteIngressQdisc('red')
        await until('it is put back', () => hasIngressQdisc('red'))
        return (await timesRestored(bed, 'red')) > restored
      },
      { deadlineMs: 60_000 },
    )
    await until('both agree', async () => (await policingOf(bed, 'red'))[1]?.rate === '5mbit')
    assert.deepEqual(await policingOf(bed, 'red'), limited)

    const slow = { rate: '5mbit', delay: '10ms' }
    await bed.api.updateQos({ tap: 'blue', qos: slow })
    await bed.service[Symbol.asyncDispose]()
    deleteIngressQdisc('red')
    deleteRootQdisc('blue')
    const { api } = bed.use(await startService(bed))
    // A start serves when what takes its time goes on.
    await until('both are put back', async () => {
      assert.deepEqual(await policingOf({ api }, 'red'), limited)
      assert.deepEqual(await qosOf({ api }, 'blue'), [slow, slow])
      return true
    })
    const limit = (tap: string, rate: string) => api.updateQos({ tap, direction, qos: { rate } })
    await limit('red', '')
    assert.deepEqual(await policingOf({ api }, 'red'), [{}, {}])
    assert.equal(hasIngressQdisc('red'), false)

    await api.createTap({ tap: 'vm', qos: { rate: '3mbit', loss: '1%' } })
    await limit('vm', '5mbit')
    await makeAnew(bed, 'vm')
    await until('both are in force on the new device', async () => {
      const { qos } = await api.getQos({ tap: 'vm' })
      return qos?.actualToEndpoint?.rate === '3mbit' && qos.actualFromEndpoint?.rate === '5mbit'
    })
    const { qos: plain } = await api.removeQos({ tap: 'vm' })
    assert.deepEqual([plain?.actualToEndpoint?.rate, plain?.actualFromEndpoint?.rate], [undefined, undefined])

    createVethPair({ name: 'theirs' }, { name: 'eth0' }, bed.createContainer())
    await api.addTap({ tap: 'theirs' })
    await limit('theirs', '5mbit')
    await api.destroyTap({ tap: 'theirs' })
    assert.equal(hasIngressQdisc('theirs'), false)
  },
)
