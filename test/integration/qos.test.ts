import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import type { Qos, TapQos } from '../../src/gen/ovs/bridge/v1/qos.js'
import { type Frame, openPacketSocket } from '../support/frame-socket.js'
import { lane, laneTest } from '../support/lane.js'
import { addAddress, changeLink, createVethPair, deleteLink, findLink } from '../support/links.js'
import type { Namespace } from '../support/namespace.js'
import { openPinger, ping } from '../support/ping.js'
import {
  deleteRootQdisc,
  experimental,
  flood,
  numberedFrame,
  receivedBytesPerSecond,
  rootQdisc,
} from '../support/qos.js'
import type { RpcError } from '../support/rpc.js'
import { type ServedTestbed, startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

/** A container on br0 through a tap of the service. */
async function plug(bed: ServedTestbed, tap: string, address: string, qos?: Qos): Promise<Namespace> {
  const container = bed.createContainer(tap)
  await bed.api.createContainerTap({ tap, netns: container.path, vethIndex: 0, ...(qos && { qos }) })
  container.run(() => addAddress('veth0', address))
  return container
}

// The kernel of the userspace lane may be without netem: there a rate has to do.
const plain: Qos = { rate: '8mbit' }
const other: Qos = { rate: '4mbit' }

const endOfRun = 0xffff_ffff

/** Without what is not set. */
function set(qos: Qos | undefined): Qos {
  return Object.fromEntries(Object.entries(qos ?? {}).filter(([, value]) => value !== undefined))
}

function bothOf(qos: TapQos | undefined): readonly Qos[] {
  return [set(qos?.toEndpoint), set(qos?.actualToEndpoint)]
}

async function qosOf(bed: Pick<ServedTestbed, 'api'>, tap: string): Promise<readonly Qos[]> {
  return bothOf((await bed.api.getQos({ tap })).qos)
}

/**
 * A container receives at this rate: in no second more than 5% above, and in one of them not more than 5% below. Not in each:
 * a machine with other things to do does not always fill the link.
 */
async function holdsRate(to: Namespace, bitsPerSecond: number): Promise<void> {
  const measured: number[] = []
  while (measured.length < 8) {
    const share = ((await receivedBytesPerSecond(to, 1_000)) * 8) / bitsPerSecond
    measured.push(share)
    assert(share < 1.05, `${share} of ${bitsPerSecond} bit/s`)
    if (share > 0.95) return
  }
  throw new Error(`only ${measured.join(' ')} of ${bitsPerSecond} bit/s`)
}

laneTest('a rate holds to 5% at 1, 10 and 100 Mbit/s', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const red = await plug(bed, 'red', '10.0.0.1/24')
  const blue = await plug(bed, 'blue', '10.0.0.2/24')
  const wire = bed.use(red.run(() => openPacketSocket('veth0')))
  for (const mbit of [1, 10, 100]) {
    await bed.api.updateQos({ tap: 'blue', qos: { rate: `${mbit}mbit` } })
    await using _ = flood(wire, (mbit * 1e6 * 1.3) / 8)
    await delay(200)
    await holdsRate(blue, mbit * 1e6)
  }
})

laneTest(
  'without netem in the kernel a delay is refused, with the module to load, and the rate stays',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { dependencies } = await bed.api.checkOvs()
    if (dependencies.some(({ name, present }) => name === 'sch_netem' && present)) return
    await bed.api.createTap({ tap: 'one', qos: { rate: '5mbit' } })
    const refusal = { code: 'FAILED_PRECONDITION', reason: 'UNSUPPORTED' }
    await assert.rejects(bed.api.updateQos({ tap: 'one', qos: { delay: '5ms' } }), (error: RpcError) => {
      assert.deepEqual({ code: error.code, reason: error.reason }, refusal)
      assert.match(error.message, /sch_netem/)
      return true
    })
    assert.deepEqual(await qosOf(bed, 'one'), [{ rate: '5mbit' }, { rate: '5mbit' }])
    await assert.rejects(bed.api.createTap({ tap: 'two', qos: { loss: '1' } }), refusal)
    assert.equal(findLink('two'), undefined)
    await assert.rejects(bed.api.getTap({ tap: 'two' }), { code: 'NOT_FOUND' })
  },
)

laneTest(
  'delay, jitter, loss, duplicates and corruption show on packets as they were asked for',
  { only: 'kernel' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const red = await plug(bed, 'red', '10.0.0.1/24')
    const blue = await plug(bed, 'blue', '10.0.0.2/24', { delay: '50' })
    await ping(red, '10.0.0.2')
    const pinger = bed.use(openPinger(red, '10.0.0.2'))
    const roundTripsMs = async (count: number) => {
      const all: number[] = []
      for (let i = 0; i < count; i++) all.push((await pinger.once('10.0.0.2', 500)) ?? Number.POSITIVE_INFINITY)
      return all.sort((a, b) => a - b)
    }
    const steady = await roundTripsMs(5)
    assert(
      steady.every(ms => ms >= 50 && ms < 500),
      steady.join(' '),
    )
    // A busy machine adds to every ping but the luckiest.
    assert((steady[0] ?? 0) < 65, steady.join(' '))
    await bed.api.updateQos({ tap: 'blue', qos: { jitter: '20ms' } })
    const spread = await roundTripsMs(30)
    assert(
      spread.every(ms => ms >= 30),
      spread.join(' '),
    )
    assert((spread[0] ?? 0) < 50 && (spread[29] ?? 0) > 54, spread.join(' '))

    const from = bed.use(red.run(() => openPacketSocket('veth0')))
    const to = bed.use(blue.run(() => openPacketSocket('veth0')))
    from.send(numberedFrame(0, 100))
    await to.receive('a frame, and so a flow in the datapath', ({ etherType }) => etherType === experimental)
    const received = async (count: number, qos: Qos) => {
      await bed.api.updateQos({ tap: 'blue', qos, replace: true })
      for (let i = 0; i < count; i++) {
        from.send(numberedFrame(i, 100))
        if (i % 50 === 49) await delay(5)
      }
      await bed.api.removeQos({ tap: 'blue' })
      from.send(numberedFrame(endOfRun, 100))
      const isEnd = ({ bytes }: Frame) => bytes.equals(numberedFrame(endOfRun, 100))
      await to.receive('the end of a run', isEnd)
      return to.drain().flatMap(({ etherType, bytes }) => (etherType === experimental ? [bytes] : []))
    }
    assert.equal((await received(200, {})).length, 200)
    const lost = 2000 - (await received(2000, { loss: '10%' })).length
    // 3.29 standard deviations of a binomial distribution.
    const tolerance = 3.29 * Math.sqrt(2000 * 0.1 * 0.9)
    assert(Math.abs(lost - 200) <= tolerance, `${lost} of 2000 lost, not 200 ± ${tolerance}`)
    const doubled = (await received(400, { duplicate: '25' })).length
    assert(Math.abs(doubled - 500) <= 3.29 * Math.sqrt(400 * 0.25 * 0.75), `${doubled} of 400`)
    const all = await received(400, { corrupt: '25' })
    const damaged = all.filter(bytes => !bytes.equals(numberedFrame(bytes.readUInt32BE(14), 100))).length
    assert(damaged > 50 && damaged < 150, `${damaged} of ${all.length} damaged`)
  },
)

laneTest(
  'a rate and a delay work together, and stay over a restart of ovs-vswitchd and a move',
  { only: 'kernel' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const red = await plug(bed, 'red', '10.0.0.1/24')
    const blue = await plug(bed, 'blue', '10.0.0.2/24', { rate: '5mbit' })
    await bed.api.updateQos({ tap: 'blue', qos: { delay: '40ms' } })
    const wire = bed.use(red.run(() => openPacketSocket('veth0')))
    const shows = async () => {
      assert((await ping(red, '10.0.0.2')) >= 40)
      await using _ = flood(wire, (5e6 * 1.3) / 8)
      await delay(300)
      await holdsRate(blue, 5e6)
    }
    await shows()
    await bed.ovs.vswitchd.restart()
    assert((await ping(red, '10.0.0.2')) >= 40)
    await bed.api.ensureBridge({ bridge: 'br1' })
    await bed.api.moveTap({ tap: 'blue', bridge: 'br1' })
    await bed.api.moveTap({ tap: 'red', bridge: 'br1' })
    await shows()
    assert.equal((await bed.api.getQos({ tap: 'blue' })).qos?.timesRestored, 0n, 'nothing had to be put back')
  },
)

laneTest(
  'QoS stays over a restart of ovs-vswitchd, moves, detaching and a new device',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.ensureBridge({ bridge: 'br1' })
    const { tap } = await bed.api.createTap({ tap: 'one', qos: plain })
    assert.deepEqual(set(tap?.qos), plain)
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
    assert.equal((await bed.api.getQos({ tap: 'one' })).qos?.timesRestored, 0n, 'nothing had to be put back')
    deleteLink(findLink('one')?.index ?? 0)
    await bed.api.addTap({ tap: 'one' })
    assert.deepEqual(await qosOf(bed, 'one'), inForce)
  },
)

laneTest('QoS that somebody takes away is put back, and counted', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'one', qos: plain })
  await bed.api.createTap({ tap: 'two', qos: other })
  await until('the service listens', () => {
    deleteRootQdisc('one')
    return until('it is back', () => rootQdisc('one')?.ours, { deadlineMs: 1_500 }).catch(() => undefined)
  })
  assert.deepEqual(await qosOf(bed, 'one'), [plain, plain])
  const restored = async () => (await bed.api.getQos({ tap: 'one' })).qos?.timesRestored ?? 0n
  const before = await restored()
  deleteRootQdisc('one')
  await until('it is back again', async () => rootQdisc('one')?.ours === true && (await restored()) > before)
  assert.equal(await restored(), before + 1n)
  assert.equal((await bed.api.getQos({ tap: 'two' })).qos?.timesRestored, 0n)
})

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
  {},
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one' })
    assert.deepEqual(await qosOf(bed, 'one'), [{}, {}])
    const change = async (qos: Qos, replace = false) =>
      bothOf((await bed.api.updateQos({ tap: 'one', qos, replace })).qos)
    assert.deepEqual(await change({ rate: '1.5Mbit' }), [{ rate: '1500kbit' }, { rate: '1500kbit' }])
    if (lane === 'kernel') {
      const both = { rate: '1500kbit', loss: '0.5%' }
      assert.deepEqual(await change({ loss: '0.50' }), [both, both])
      assert.deepEqual(await change({ rate: '' }), [{ loss: '0.5%' }, { loss: '0.5%' }])
      const whole = { delay: '200us', reorder: '25%', duplicate: '1%', corrupt: '0.1%', jitter: '100ns' }
      assert.deepEqual(await change(whole, true), [whole, whole])
      assert.deepEqual(await change({ rate: '1gbit' }, true), [{ rate: '1gbit' }, { rate: '1gbit' }])
    }
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

laneTest('an adopted device is given back without our qdisc', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  createVethPair({ name: 'theirs' }, { name: 'eth0' }, bed.createContainer())
  const before = rootQdisc('theirs')
  await bed.api.addTap({ tap: 'theirs' })
  await bed.api.updateQos({ tap: 'theirs', qos: plain })
  assert.equal(rootQdisc('theirs')?.ours, true)
  await bed.api.destroyTap({ tap: 'theirs' })
  assert.deepEqual(rootQdisc('theirs'), before)
})

/** tc's own view, `tc -j qdisc show dev DEVICE`. */
function tcOptions(device: string): Readonly<Record<string, unknown>> {
  const [root] = JSON.parse(execFileSync('tc', ['-s', '-j', 'qdisc', 'show', 'dev', device]).toString()) as {
    kind: string
    options: Record<string, unknown>
  }[]
  return { kind: root?.kind, ...root?.options }
}

laneTest('tc shows what was asked for', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await bed.api.createTap({ tap: 'one', qos: { rate: '10mbit' } })
  const { kind, rate, burst, lat } = tcOptions('one')
  assert.deepEqual({ kind, rate, burst, lat }, { kind: 'tbf', rate: 1_250_000, burst: 12_500, lat: 20_000 })
  if (lane === 'userspace') return
  const qos = { delay: '50ms', jitter: '5', loss: '0.5', duplicate: '1', corrupt: '2', reorder: '25' }
  await bed.api.updateQos({ tap: 'one', qos })
  const { limit: _, ecn: __, ...options } = tcOptions('one')
  assert.deepEqual(options, {
    kind: 'netem',
    delay: { delay: 0.05, jitter: 0.005, correlation: 0 },
    'loss-random': { loss: 0.005, correlation: 0 },
    duplicate: { duplicate: 0.01, correlation: 0 },
    reorder: { reorder: 0.25, correlation: 0 },
    corrupt: { corrupt: 0.02, correlation: 0 },
    rate: { rate: 1_250_000, packetoverhead: 0, cellsize: 0, celloverhead: 0 },
    gap: 1,
  })
})
