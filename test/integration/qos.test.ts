import assert from 'node:assert/strict'
import { type Qos, QosDirection } from '../../src/gen/ovs/bridge/v1/qos.js'
import { openPacketSocket } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { findLink } from '../support/links.js'
import { plug } from '../support/plug.js'
import { bothOf, flood, hasIngressQdisc, holdRate, policingOf, qosOf, rootQdisc } from '../support/qos.js'
import type { RpcError } from '../support/rpc.js'
import { startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

const plain: Qos = { rate: '8mbit' }
const other: Qos = { rate: '4mbit' }
const unsupported = { code: 'FAILED_PRECONDITION', reason: 'UNSUPPORTED' }

laneTest('a rate holds to 5% at 1, 10 and 100 Mbit/s', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const red = await plug(bed, 'red', '10.0.0.1/24')
  const blue = await plug(bed, 'blue', '10.0.0.2/24')
  const wire = bed.use(red.run(() => openPacketSocket('veth0')))
  for (const mbit of [1, 10, 100]) {
    await bed.api.updateQos({ tap: 'blue', qos: { rate: `${mbit}mbit` } })
    await using _ = flood(wire, (mbit * 1e6 * 1.3) / 8)
    await holdRate({ blue }, mbit * 1e6, 1_000, 20_000)
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
