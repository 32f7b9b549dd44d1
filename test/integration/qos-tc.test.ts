import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { noQos } from '../../src/bridge/qos-parse.js'
import { isInForce, qdiscOf } from '../../src/bridge/qos-qdisc.js'
import type { Qos } from '../../src/gen/ovs/bridge/v1/qos.js'
import { laneTest } from '../support/lane.js'
import { bothOf, qosOf, rootQdisc, setOf, timesRestored } from '../support/qos.js'
import { randomFrom } from '../support/random.js'
import { RpcError } from '../support/rpc.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

/** tc's own view of the root qdisc, `tc -s -j qdisc show dev DEVICE`. */
function tcShows(device: string): Readonly<Record<string, unknown>> {
  const [root] = JSON.parse(execFileSync('tc', ['-s', '-j', 'qdisc', 'show', 'dev', device]).toString()) as {
    kind: string
    options: Record<string, unknown>
  }[]
  return { kind: root?.kind, ...root?.options }
}

/** A bare time is in milliseconds here, and in microseconds there. */
function tcTime(text: string): string {
  return /\d$/.test(text) ? `${text}ms` : text
}

/** The same in tc's words, on a device of its own; the sizes of the queue, which tc leaves to who calls it, are the service's. */
function tcSets(device: string, qos: Qos, like: string): void {
  const spec = rootQdisc(like)?.spec
  const { rate, loss, delay, jitter, duplicate, corrupt, reorder } = setOf(qos)
  // 10 ms, or a frame.
  const burst = Math.max(Math.ceil((spec?.bytesPerSecond ?? 0) / 100), 1_522)
  const words =
    spec?.kind === 'tbf'
      ? ['tbf', 'rate', rate ?? '', 'burst', String(burst), 'limit', String(spec.limitBytes)]
      : [
          ...['netem', 'limit', String(spec?.limitPackets)],
          ...(delay === undefined ? [] : ['delay', tcTime(delay), ...(jitter === undefined ? [] : [tcTime(jitter)])]),
          ...(loss === undefined ? [] : ['loss', loss]),
          ...(duplicate === undefined ? [] : ['duplicate', duplicate]),
          ...(corrupt === undefined ? [] : ['corrupt', corrupt]),
          ...(reorder === undefined ? [] : ['reorder', reorder]),
          ...(rate === undefined ? [] : ['rate', rate]),
        ]
  // To replace a netem is to change it, and what is not named stays.
  const former = rootQdisc(device)?.spec === undefined ? '' : `qdisc del dev ${device} root\n`
  execFileSync('tc', ['-batch', '-'], {
    input: `${former}qdisc add dev ${device} root ${words.join(' ')}\n`,
    stdio: 'pipe',
  })
}

/** `mine` is as the service set it, `theirs` is set by tc: the kernel has the same numbers for both. */
async function agreesWithTc({ api }: ServedTestbed, qos: Qos): Promise<void> {
  await api.updateQos({ tap: 'mine', qos, replace: true })
  tcSets('theirs', qos, 'mine')
  const what = JSON.stringify(qos)
  const [mine, theirs] = [rootQdisc('mine')?.spec, rootQdisc('theirs')?.spec]
  // tc counts times in ticks of 64 ns and cuts off; the service is exact.
  if (mine?.kind === 'netem' && theirs?.kind === 'netem') {
    const { delayNs, jitterNs } = theirs
    assert(mine.delayNs - delayNs >= 0 && mine.delayNs - delayNs < 64, `${what}: ${mine.delayNs}, not ${delayNs} ns`)
    assert(
      mine.jitterNs - jitterNs >= 0 && mine.jitterNs - jitterNs < 64,
      `${what}: ${mine.jitterNs}, not ${jitterNs} ns`,
    )
    assert.deepEqual({ ...mine, delayNs, jitterNs }, theirs, what)
  } else assert.deepEqual(mine, theirs, what)
}

/** What tc shows of a rate alone: bytes a second, bytes of burst, microseconds of queue. */
const rates: Readonly<Record<string, readonly [number, number, number]>> = {
  '8kbit': [1_000, 1_522, 20_000],
  '1mbit': [125_000, 1_522, 20_000],
  '10mbit': [1_250_000, 12_500, 20_000],
  '1.5Mbit': [187_500, 1_875, 20_000],
  '33333kbit': [4_166_625, 41_667, 20_000],
  '1gbit': [125_000_000, 1_250_000, 20_000],
  '40gbit': [5_000_000_000, 50_000_000, 20_000],
}

laneTest('tc shows a rate as it was asked for, and as tc itself sets it', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  for (const tap of ['mine', 'theirs']) await bed.api.createTap({ tap })
  for (const [rate, shown] of Object.entries(rates)) {
    await agreesWithTc(bed, { rate })
    const { kind, rate: bytesPerSecond, burst, lat } = tcShows('mine')
    assert.deepEqual([kind, bytesPerSecond], ['tbf', shown[0]], rate)
    // tc reckons both back from the kernel's clock in whole microseconds, and cuts off.
    assert(Math.abs(Number(lat) - shown[2]) <= 1, `${rate}: ${Number(lat)} us`)
    assert(Math.abs(Number(burst) - shown[1]) <= Math.max(1, shown[0] / 1e6), `${rate}: ${Number(burst)} bytes`)
    assert(isInForce(qdiscOf({ ...noQos, bitsPerSecond: shown[0] * 8 }, 1_500), rootQdisc('mine')), rate)
  }
  assert.equal(await timesRestored(bed, 'mine'), 0, 'what the kernel has is taken for what was asked for')
})

/** What tc shows of a netem; times in seconds (whole microseconds of whole ticks), probabilities of 1. */
const netems: readonly (readonly [Qos, Readonly<Record<string, unknown>>])[] = [
  [{ delay: '50' }, { delay: { delay: 0.05, jitter: 0, correlation: 0 } }],
  [{ delay: '200us', jitter: '96us' }, { delay: { delay: 0.0002, jitter: 0.000096, correlation: 0 } }],
  [{ delay: '274s', jitter: '2.1s' }, { delay: { delay: 274, jitter: 2.1, correlation: 0 } }],
  [{ loss: '0.50' }, { 'loss-random': { loss: 0.005, correlation: 0 } }],
  [{ loss: '100%' }, { 'loss-random': { loss: 1, correlation: 0 } }],
  [{ loss: '33.3333333333%' }, {}],
  [{ duplicate: '1' }, { duplicate: { duplicate: 0.01, correlation: 0 } }],
  [{ corrupt: '0.1%' }, { corrupt: { corrupt: 0.001, correlation: 0 } }],
  [
    { delay: '1ms', reorder: '25%' },
    { reorder: { reorder: 0.25, correlation: 0 }, gap: 1 },
  ],
  [{ rate: '5mbit', delay: '40ms' }, { rate: { rate: 625_000, packetoverhead: 0, cellsize: 0, celloverhead: 0 } }],
  [{ rate: '40gbit', loss: '1' }, { rate: { rate: 5_000_000_000, packetoverhead: 0, cellsize: 0, celloverhead: 0 } }],
  [
    { rate: '10mbit', delay: '50ms', jitter: '5', loss: '0.5', duplicate: '1', corrupt: '2', reorder: '25' },
    {
      delay: { delay: 0.05, jitter: 0.005, correlation: 0 },
      'loss-random': { loss: 0.005, correlation: 0 },
      duplicate: { duplicate: 0.01, correlation: 0 },
      corrupt: { corrupt: 0.02, correlation: 0 },
      reorder: { reorder: 0.25, correlation: 0 },
      rate: { rate: 1_250_000, packetoverhead: 0, cellsize: 0, celloverhead: 0 },
    },
  ],
]

const words: Readonly<Record<keyof Qos, readonly string[]>> = {
  rate: ['', '5mbit', '64KBIT', '.5gbit', '10mb', '1tbit'],
  loss: ['', '0.5', '12.345678%', '99.9999999', '101', '-1'],
  delay: ['', '0.29', '17us', '1.5s', '999us', '5 ms', '1h'],
  jitter: ['', '3', '250us', '0.1ns'],
  duplicate: ['', '7%', '0.0001', 'x'],
  corrupt: ['', '1.1', '%'],
  reorder: ['', '50', '0.25%'],
}

function randomQos(next: () => number): Qos {
  const pick = (from: readonly string[]) => from[Math.floor(next() * from.length)]
  return Object.fromEntries(
    Object.entries(words).flatMap(([field, from]) => (pick(['', '1']) ? [[field, pick(from)]] : [])),
  )
}

/** Taken as tc takes it, or refused with the field that is wrong, the former QoS in force. */
async function takenOrRefused(bed: ServedTestbed, qos: Qos): Promise<boolean> {
  const before = rootQdisc('mine')
  try {
    await bed.api.updateQos({ tap: 'mine', qos, replace: true })
  } catch (error) {
    assert(error instanceof RpcError, String(error))
    assert.equal(error.code, 'INVALID_ARGUMENT', JSON.stringify(qos))
    assert(Object.keys(error.violations).length > 0)
    assert.deepEqual(rootQdisc('mine'), before, JSON.stringify(qos))
    return false
  }
  const asked = Object.fromEntries(Object.entries(setOf(qos)).filter(([, text]) => text !== ''))
  if (Object.keys(asked).length > 0) await agreesWithTc(bed, asked)
  return true
}

/** On a host the module may be somebody else's; the lane's own kernel can do without it for a while. */
async function showRefusalWithoutNetem(bed: ServedTestbed): Promise<void> {
  if (!existsSync('/dev/uml')) return
  const netem = async () => (await bed.api.checkOvs()).dependencies.find(({ name }) => name === 'sch_netem')
  await until('no qdisc of an earlier test is left', () => execFileSync('rmmod', ['sch_netem'], { stdio: 'pipe' }))
  assert.deepEqual([(await netem())?.present, (await netem())?.remedy], [false, 'modprobe sch_netem'])
  const refused = { code: 'FAILED_PRECONDITION', reason: 'UNSUPPORTED', message: /sch_netem/ }
  await bed.api.updateQos({ tap: 'mine', qos: { rate: '5mbit' } })
  await assert.rejects(bed.api.updateQos({ tap: 'mine', qos: { delay: '5ms' } }), refused)
  assert.deepEqual(await qosOf(bed, 'mine'), [{ rate: '5mbit' }, { rate: '5mbit' }])
  await assert.rejects(bed.api.createTap({ tap: 'late', qos: { loss: '1' } }), refused)
  execFileSync('modprobe', ['sch_netem'])
  assert.equal((await netem())?.present, true)
}

/**
 * What others add to our netem is seen also where the kernel does not show it, such as a distribution, and is gone
 * afterwards.
 */
async function showPutBack(bed: ServedTestbed): Promise<void> {
  // Whole ticks of the kernel's, so that tc can set the same.
  const qos = { delay: '200us', jitter: '96us' }
  await bed.api.updateQos({ tap: 'mine', qos, replace: true })
  const before = rootQdisc('mine')
  const same = `netem limit ${before?.spec?.kind === 'netem' ? before.spec.limitPackets : 0} delay 200us 96us`
  const tampering = [
    'qdisc del dev mine root',
    `qdisc change dev mine root handle b52: ${same} 25% slot 1ms 2ms`,
    `qdisc change dev mine root handle b52: ${same} distribution normal`,
  ]
  for (const [already, words] of tampering.entries()) {
    execFileSync('tc', words.split(' '), { stdio: 'pipe' })
    await until('it is put back', async () => (await timesRestored(bed, 'mine')) > already)
    assert.deepEqual(rootQdisc('mine'), before, words)
    assert.equal(await timesRestored(bed, 'mine'), already + 1)
  }
  assert.deepEqual(await qosOf(bed, 'mine'), [qos, qos])
}

laneTest(
  'tc shows netem as it was asked for, and as tc itself sets it; changes keep what they do not name; it is put back',
  { isLong: true, only: 'kernel' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    for (const tap of ['mine', 'theirs']) await bed.api.createTap({ tap })
    await showRefusalWithoutNetem(bed)
    for (const [qos, shown] of netems) {
      await agreesWithTc(bed, qos)
      const all = tcShows('mine')
      assert.equal(all['kind'], 'netem')
      for (const [option, value] of Object.entries(shown)) assert.deepEqual(all[option], value, JSON.stringify(qos))
    }
    const seed = Number(process.env['OVS_BRIDGED_TEST_SEED'] ?? Date.now() % 1_000_000)
    context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
    const next = randomFrom(seed)
    const taken: boolean[] = []
    const haveBoth = () => taken.includes(true) && taken.includes(false)
    // With some seeds the first sixteen are all taken.
    while (taken.length < 16 || (taken.length < 256 && !haveBoth())) {
      taken.push(await takenOrRefused(bed, randomQos(next)))
    }
    assert(haveBoth())

    const change = async (qos: Qos, replace = false) =>
      bothOf((await bed.api.updateQos({ tap: 'mine', qos, replace })).qos)
    await change({ rate: '1500kbit' }, true)
    const both = { rate: '1500kbit', loss: '0.5%' }
    assert.deepEqual(await change({ loss: '0.50' }), [both, both])
    assert.deepEqual(await change({ rate: '' }), [{ loss: '0.5%' }, { loss: '0.5%' }])
    const whole = { delay: '200us', reorder: '25%', duplicate: '1%', corrupt: '0.1%', jitter: '100ns' }
    assert.deepEqual(await change(whole, true), [whole, whole])
    assert.deepEqual(await change({ rate: '1gbit' }, true), [{ rate: '1gbit' }, { rate: '1gbit' }])
    assert.equal(await timesRestored(bed, 'mine'), 0, 'what the kernel has is taken for what was asked for')
    await showPutBack(bed)
  },
)
