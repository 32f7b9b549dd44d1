import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import type { Qos } from '../../src/gen/ovs/bridge/v1/qos.js'
import { laneTest } from '../support/lane.js'
import { changeLink, createVethPair, deleteLink, findLink } from '../support/links.js'
import {
  deleteRootQdisc,
  hasIngressQdisc,
  policingOf,
  qosOf,
  rootQdisc,
  setInRecord,
  setOf,
  timesRestored,
} from '../support/qos.js'
import { startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

// The kernel of the userspace lane may be without netem: there a rate has to do.
const plain: Qos = { rate: '8mbit' }
const other: Qos = { rate: '4mbit' }

laneTest(
  'QoS stays over a restart of ovs-vswitchd, moves, detaching and a new device',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.ensureBridge({ bridge: 'br1' })
    const { tap } = await bed.api.createTap({ tap: 'one', qos: plain })
    assert.deepEqual(setOf(tap?.qos), plain)
    const inForce = [plain, plain]
    assert.deepEqual(await qosOf(bed, 'one'), inForce)
    assert.equal(rootQdisc('one')?.ours, true)
    await bed.ovs.vswitchd.restart()
    await bed.api.createTap({ tap: 'two' })
    assert.deepEqual(await qosOf(bed, 'one'), inForce)
    await bed.api.moveTap({ tap: 'one', bridge: 'br1', vlan: 7 })
    assert.deepEqual(await qosOf(bed, 'one'), inForce)
    await bed.api.removeTap({ tap: 'one' })
    assert.deepEqual(await qosOf(bed, 'one'), inForce)
    assert.equal(await timesRestored(bed, 'one'), 0, 'nothing had to be put back')
    deleteLink(findLink('one')?.index ?? 0)
    await bed.api.addTap({ tap: 'one' })
    assert.deepEqual(await qosOf(bed, 'one'), inForce)
  },
)

/** Somebody else at work. */
function tc(...words: readonly string[]): void {
  execFileSync('tc', words, { stdio: 'pipe' })
}

laneTest(
  'QoS that somebody takes away or changes is put back, counted, and no more than once a second',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one', qos: plain })
    await bed.api.createTap({ tap: 'two', qos: other })
    const isBack = () => rootQdisc('one')?.ours === true
    const tampering: readonly (readonly string[])[] = [
      ['del', 'dev', 'one', 'root'],
      ['replace', 'dev', 'one', 'root', 'pfifo'],
      ['change', 'dev', 'one', 'root', 'handle', 'b51:', 'tbf', 'rate', '1mbit', 'burst', '10k', 'latency', '20ms'],
      'change dev one root handle b51: tbf rate 8mbit burst 10000 limit 30000 peakrate 9mbit mtu 2000'.split(' '),
    ]
    for (const [already, words] of tampering.entries()) {
      tc('qdisc', ...words)
      await until('it is put back', async () => (await timesRestored(bed, 'one')) > already && isBack())
      assert.deepEqual(await qosOf(bed, 'one'), [plain, plain])
      assert.equal(await timesRestored(bed, 'one'), already + 1)
    }
    const beganAt = performance.now()
    for (let taken = 0; taken < 4; taken++) {
      deleteRootQdisc('one')
      await until('it is put back', isBack)
    }
    const elapsedMs = performance.now() - beganAt
    assert(elapsedMs >= 2_950, `four times in ${elapsedMs} ms`)
    await until('all are counted', async () => (await timesRestored(bed, 'one')) === tampering.length + 4)
    assert.equal(await timesRestored(bed, 'two'), 0)
  },
)

laneTest(
  'QoS towards an endpoint is put back and counted while the limit on what comes from it keeps failing',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one', qos: plain })
    // No call would record it here: the userspace datapath takes the frames before the kernel polices them.
    await setInRecord(bed, 'one', 'policed-kbps', '5000')
    await until('it is recorded', async () => (await policingOf(bed, 'one'))[0]?.rate === '5mbit')
    // The limit's next attempts are 2, 6, 14, 30 and 62 s after the first: too seldom to wait for.
    for (let taken = 1; taken <= 5; taken++) {
      deleteRootQdisc('one')
      await until('it is put back and counted', async () => {
        return rootQdisc('one')?.ours === true && (await timesRestored(bed, 'one')) === taken
      })
    }
    assert.deepEqual(await policingOf(bed, 'one'), [{ rate: '5mbit' }, {}])
  },
)

laneTest(
  'a daemon that starts puts back what went while there was none, and takes away what nobody asked for',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one', qos: plain })
    await bed.api.createTap({ tap: 'two', qos: plain })
    await bed.service[Symbol.asyncDispose]()
    deleteRootQdisc('one')
    // As after a crash between the kernel and the record.
    const [row] = await bed.ovs.select('QoS', [['external_ids', 'includes', ['map', [['ovs-bridged:tap', 'two']]]]])
    const keys = ['set', ['rate', 'delay'].map(field => `ovs-bridged:qos-${field}`)]
    await bed.ovs.transact({
      op: 'mutate',
      table: 'QoS',
      where: [['_uuid', '==', row?.['_uuid']]],
      mutations: [['external_ids', 'delete', keys]],
    })
    const again = bed.use(await startService(bed))
    assert.deepEqual(await qosOf(again, 'one'), [plain, plain])
    assert.deepEqual(await qosOf(again, 'two'), [{}, {}])
    assert.notEqual(rootQdisc('two')?.ours, true)
  },
)

laneTest('a burst grows with the MTU, so that no frame is too long for it', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'one', qos: { rate: '64kbit' } })
  const burst = () => {
    const spec = rootQdisc('one')?.spec
    return spec?.kind === 'tbf' ? spec.burstBytes : 0
  }
  assert(burst() >= 1514 && burst() < 2000)
  changeLink({ name: 'one', mtuBytes: 9000 })
  await until('the burst takes a jumbo frame', () => burst() >= 9014)
})

laneTest("a qdisc of somebody's that has our handle is replaced", { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'one' })
  tc('qdisc', 'add', 'dev', 'one', 'root', 'handle', 'b51:', 'pfifo')
  await bed.api.updateQos({ tap: 'one', qos: plain })
  assert.deepEqual(await qosOf(bed, 'one'), [plain, plain])
  assert.equal(rootQdisc('one')?.ours, true)
})

laneTest(
  "an adopted device keeps its owner's qdisc, and is given back without ours",
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    createVethPair({ name: 'theirs' }, { name: 'eth0' }, bed.createContainer())
    const before = rootQdisc('theirs')
    await bed.api.addTap({ tap: 'theirs' })
    tc('qdisc', 'add', 'dev', 'theirs', 'root', 'pfifo', 'limit', '7')
    const refused = { code: 'FAILED_PRECONDITION', reason: 'NOT_OWNED', message: /pfifo/ }
    await assert.rejects(bed.api.updateQos({ tap: 'theirs', qos: plain }), refused)
    await bed.api.removeQos({ tap: 'theirs' })
    assert.equal(rootQdisc('theirs')?.kind, 'pfifo')
    tc('qdisc', 'del', 'dev', 'theirs', 'root')
    await bed.api.updateQos({ tap: 'theirs', qos: plain })
    assert.equal(rootQdisc('theirs')?.ours, true)
    await bed.api.destroyTap({ tap: 'theirs' })
    assert.deepEqual(rootQdisc('theirs'), before)
  },
)

laneTest(
  'RemoveQos is one transaction, and takes the limit off a detached device before its record forgets it',
  { only: 'userspace', looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api, ovs, service } = bed
    await api.createTap({ tap: 'one', qos: plain })
    await api.removeTap({ tap: 'one' })
    // No call would record it here.
    await setInRecord(bed, 'one', 'policed-kbps', '5000')
    await until('it is recorded', async () => (await policingOf(bed, 'one'))[0]?.rate === '5mbit')
    tc('qdisc', 'add', 'dev', 'one', 'ingress')
    const before = service.daemon.host.committer.transactions
    ovs.ovsdbServer.stop()
    const removed = api.removeQos({ tap: 'one' })
    await until('the limit is gone', () => !hasIngressQdisc('one'))
    ovs.ovsdbServer.continue()
    await removed
    assert.deepEqual(
      [await qosOf(bed, 'one'), await policingOf(bed, 'one')],
      [
        [{}, {}],
        [{}, {}],
      ],
    )
    assert.equal(service.daemon.host.committer.transactions - before, 1)
  },
)
