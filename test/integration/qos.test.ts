import assert from 'node:assert/strict'
import { type Qos, QosDirection } from '../../src/gen/ovs/bridge/v1/qos.js'
import { OvsdbError } from '../../src/ovsdb/index.js'
import { openPacketSocket } from '../support/frame-socket.js'
import { startGuest } from '../support/guest.js'
import { laneTest } from '../support/lane.js'
import { deleteLink, findLink } from '../support/links.js'
import { plug } from '../support/plug.js'
import { bothOf, flood, hasIngressQdisc, policingOf, qosOf, rootQdisc, setInRecord } from '../support/qos.js'
import { holdRate, received } from '../support/rate.js'
import type { RpcError } from '../support/rpc.js'
import { startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

const plain: Qos = { rate: '8mbit' }
const other: Qos = { rate: '4mbit' }
const unsupported = { code: 'FAILED_PRECONDITION', reason: 'UNSUPPORTED' }

laneTest('a rate holds to 5% at 1, 10 and 100 Mbit/s', { only: 'userspace', timeoutMs: 300_000 }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const red = await plug(bed, 'red', '10.0.0.1/24')
  const blue = received(await plug(bed, 'blue', '10.0.0.2/24'))
  const free = received(await plug(bed, 'free', '10.0.0.3/24'))
  await bed.api.createTap({ tap: 'vm' })
  const vm = received(startGuest(bed, 'vm', '10.0.0.4/24'), 'eth0')
  const wire = bed.use(red.run(() => openPacketSocket('veth0')))
  for (const mbit of [1, 10, 100]) {
    await bed.api.updateQos({ tap: 'blue', qos: { rate: `${mbit}mbit` } })
    // ovs-vswitchd sends to all ports through one socket, whose buffer a second long queue would take from the first.
    if (mbit < 100) await bed.api.updateQos({ tap: 'vm', qos: { rate: `${mbit}mbit` } })
    await using _ = flood(wire, (mbit * 1e6 * 1.6) / 8)
    await holdRate(mbit < 100 ? { blue, vm } : { blue }, free, mbit * 1e6, 1_000, 80_000)
  }
})

laneTest(
  'CheckOvs says whether a delay can be had; without netem it is refused with the module to load, and the rate stays',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { dependencies } = await bed.api.checkOvs()
    const netem = dependencies.find(({ name }) => name === 'sch_netem')
    await bed.api.createTap({ tap: 'one', qos: { rate: '5mbit' } })
    const delayed = bed.api.updateQos({ tap: 'one', qos: { delay: '5ms' } })
    if (netem?.present) {
      assert.deepEqual(
        bothOf((await delayed).qos),
        [0, 1].map(() => ({ rate: '5mbit', delay: '5ms' })),
      )
      return
    }
    assert.equal(netem?.remedy, 'modprobe sch_netem')
    await assert.rejects(delayed, (error: RpcError) => {
      assert.deepEqual({ code: error.code, reason: error.reason }, unsupported)
      assert.match(error.message, /sch_netem/)
      return true
    })
    assert.deepEqual(await qosOf(bed, 'one'), [{ rate: '5mbit' }, { rate: '5mbit' }])
    await assert.rejects(bed.api.createTap({ tap: 'two', qos: { loss: '1' } }), unsupported)
    assert.equal(findLink('two'), undefined)
    await assert.rejects(bed.api.getTap({ tap: 'two' }), { code: 'NOT_FOUND' })
  },
)

laneTest(
  'from the endpoint nothing but a rate can be had, and on the userspace datapath not even that',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one', qos: plain })
    await bed.api.createHostTap({ tap: 'host0' })
    const limit = (qos: Qos, tap = 'one') => bed.api.updateQos({ tap, qos, direction: QosDirection.FROM_ENDPOINT })
    await assert.rejects(limit({ rate: '5mbit' }), { ...unsupported, message: /the userspace datapath/ })
    await assert.rejects(limit({ rate: '5mbit', delay: '5ms' }), unsupported)
    await assert.rejects(limit({ loss: '1' }), unsupported)
    await assert.rejects(limit({ rate: '5mbit' }, 'host0'), unsupported)
    for (const rate of ['1.5kbit', '35gbit', '5']) {
      await assert.rejects(limit({ rate }), { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' })
    }
    assert.deepEqual(await policingOf(bed, 'one'), [{}, {}])
    assert.equal(hasIngressQdisc('one'), false)
    await bed.api.removeTap({ tap: 'one' })
    await assert.rejects(limit({ rate: '5mbit' }), { ...unsupported, message: /the userspace datapath/ })
    assert.deepEqual(await policingOf(bed, 'one'), [{}, {}])
    // To take away what is not there is no more than that.
    for (const rate of [undefined, '']) await limit(rate === undefined ? {} : { rate })
    await bed.api.removeQos({ tap: 'one', direction: QosDirection.FROM_ENDPOINT })
    assert.deepEqual(await qosOf(bed, 'one'), [plain, plain])
  },
)

laneTest('a change that cannot be recorded leaves the former QoS in force', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'one', qos: plain })
  await bed.api.createTap({ tap: 'two' })
  await bed.ovs.ovsdbServer.kill()
  await until('the service has noticed', async () => !(await bed.api.checkOvs()).ovsdbConnected)
  const lost = { code: 'UNAVAILABLE', reason: 'OVSDB_UNAVAILABLE' }
  await assert.rejects(bed.api.updateQos({ tap: 'one', qos: other, replace: true }), lost)
  await assert.rejects(bed.api.updateQos({ tap: 'two', qos: other }), lost)
  assert.deepEqual(await qosOf(bed, 'one'), [plain, plain])
  assert.deepEqual(await qosOf(bed, 'two'), [{}, {}])
})

laneTest(
  'changes keep what they do not name, an empty text takes away, and replace sets the whole',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one' })
    assert.deepEqual(await qosOf(bed, 'one'), [{}, {}])
    const change = async (qos: Qos, replace = false) =>
      bothOf((await bed.api.updateQos({ tap: 'one', qos, replace })).qos)
    assert.deepEqual(await change({ rate: '1.5Mbit' }), [{ rate: '1500kbit' }, { rate: '1500kbit' }])
    assert.deepEqual(await change({ loss: '0', delay: '' }), [{ rate: '1500kbit' }, { rate: '1500kbit' }])
    assert.deepEqual(await change({ rate: '' }), [{}, {}])
    assert.deepEqual(await change(other, true), [other, other])
    assert.deepEqual(await change({}, true), [{}, {}])
    assert.deepEqual(await change(plain), [plain, plain])
    assert.deepEqual(bothOf((await bed.api.removeQos({ tap: 'one' })).qos), [{}, {}])
    assert.deepEqual(bothOf((await bed.api.removeQos({ tap: 'one' })).qos), [{}, {}])
    assert.notEqual(rootQdisc('one')?.ours, true)
  },
)

laneTest(
  'a tap whose limit would be without effect on the userspace datapath stays detached until that is taken away',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one' })
    await bed.api.removeTap({ tap: 'one' })
    // As set where there is a kernel datapath.
    await setInRecord(bed, 'one', 'policed-kbps', '5000')
    await until('it is told', async () => (await policingOf(bed, 'one'))[0]?.rate === '5mbit')
    const [{ next_cfg: before } = {}] = await bed.ovs.select('Open_vSwitch', [])
    await assert.rejects(bed.api.addTap({ tap: 'one' }), { ...unsupported, message: /what comes from one/ })
    const [{ next_cfg: after } = {}] = await bed.ovs.select('Open_vSwitch', [])
    assert.equal(after, before, 'it was refused before anything was changed')
    await bed.api.removeQos({ tap: 'one', direction: QosDirection.FROM_ENDPOINT })
    assert.equal((await bed.api.addTap({ tap: 'one' })).tap?.bridge, 'br0')
  },
)

laneTest(
  'a change of which nobody knows whether it was recorded leaves the kernel as the record is',
  { only: 'userspace', looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one', qos: plain })
    const { committer } = bed.service.daemon.host
    const commit = committer.commit.bind(committer)
    // The connection is cut after the database has told of the change, and before it has answered.
    committer.commit = async (part, call) => {
      await commit(part, call)
      throw new OvsdbError({ kind: 'outcome-unknown', message: 'the connection was cut' })
    }
    const change = bed.api.updateQos({ tap: 'one', qos: other })
    await assert.rejects(change, { code: 'UNKNOWN', reason: 'OUTCOME_UNKNOWN' })
    assert.deepEqual(await qosOf(bed, 'one'), [other, other])
  },
)

laneTest(
  'without its device the QoS of a tap can be changed and removed, and is in force on the next one',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one', qos: plain })
    deleteLink(findLink('one')?.index ?? 0)
    assert.deepEqual(bothOf((await bed.api.updateQos({ tap: 'one', qos: other })).qos), [other, {}])
    assert.deepEqual(bothOf((await bed.api.removeQos({ tap: 'one' })).qos), [{}, {}])
    await bed.api.updateQos({ tap: 'one', qos: plain })
    await bed.api.moveTap({ tap: 'one', vlan: 7 })
    assert.deepEqual(await qosOf(bed, 'one'), [plain, plain])
  },
)

laneTest('changes of one tap at the same time all take effect', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'one' })
  const rates = ['1mbit', '2mbit', '3mbit', '4mbit']
  await Promise.all([
    ...rates.map(rate => bed.api.updateQos({ tap: 'one', qos: { rate } })),
    bed.api.moveTap({ tap: 'one', vlan: 9 }),
  ])
  const [wanted, actual] = await qosOf(bed, 'one')
  assert.deepEqual(actual, wanted)
  assert(rates.includes(wanted?.rate ?? ''))
  assert.equal((await bed.api.getTap({ tap: 'one' })).tap?.vlan, 9)
})

const refusals: Readonly<Record<string, readonly [Qos, ...string[]]>> = {
  'a rate without a unit': [{ rate: '10' }, 'qos.rate'],
  'a unit that is none': [{ rate: '10mb' }, 'qos.rate'],
  'a rate of nothing': [{ rate: '0mbit' }, 'qos.rate'],
  'a rate below zero': [{ rate: '-1mbit' }, 'qos.rate'],
  'a rate beyond every link': [{ rate: '99999999999999999999gbit' }, 'qos.rate'],
  'a loss over 100': [{ loss: '100.1' }, 'qos.loss'],
  'a loss below zero': [{ loss: '-1' }, 'qos.loss'],
  'a loss that is no number': [{ loss: 'much' }, 'qos.loss'],
  'a jitter without a delay': [{ jitter: '5ms' }, 'qos.jitter'],
  'a reordering without a delay': [{ reorder: '5' }, 'qos.reorder'],
  "a delay beyond netem's": [{ delay: '275s' }, 'qos.delay'],
  'a delay in hours': [{ delay: '1h' }, 'qos.delay'],
  'several faults': [{ rate: 'x', loss: 'y', delay: 'z' }, 'qos.rate', 'qos.loss', 'qos.delay'],
}

laneTest(
  'what makes no sense is refused field by field, and the former QoS stays',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one', qos: { rate: '1mbit' } })
    await bed.api.createHostTap({ tap: 'host0' })
    for (const [what, [qos, ...fields]] of Object.entries(refusals)) {
      const named = (error: RpcError) => {
        assert.deepEqual(
          [error.code, Object.keys(error.violations).sort()],
          ['INVALID_ARGUMENT', [...fields].sort()],
          what,
        )
        return true
      }
      await assert.rejects(bed.api.updateQos({ tap: 'one', qos }), named)
      await assert.rejects(bed.api.createTap({ tap: 'new', qos }), named)
    }
    assert.deepEqual(await qosOf(bed, 'one'), [{ rate: '1mbit' }, { rate: '1mbit' }])
    const hostTap = bed.api.updateQos({ tap: 'host0', qos: { rate: '1mbit' } })
    await assert.rejects(hostTap, { code: 'FAILED_PRECONDITION', reason: 'UNSUPPORTED' })
    for (const call of [bed.api.updateQos, bed.api.getQos, bed.api.removeQos]) {
      await assert.rejects(call({ tap: 'nobody' }), { code: 'NOT_FOUND', reason: 'TAP_NOT_FOUND' })
    }
  },
)
