import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import type { Qos } from '../../src/gen/ovs/bridge/v1/qos.js'
import { type FrameSocket, openPacketSocket } from '../support/frame-socket.js'
import { startGuest } from '../support/guest.js'
import { laneTest } from '../support/lane.js'
import type { Namespace } from '../support/namespace.js'
import { openPinger, ping } from '../support/ping.js'
import { plug } from '../support/plug.js'
import { flood, numberedFrame, qosOf, receivedFrames, setOf, timesRestored } from '../support/qos.js'
import { type ByteCounter, holdRate, received } from '../support/rate.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

/** Links under test, by the VLAN whose one sender reaches all of them: frames to nobody's address are flooded. */
const rateLinks = { tbf: { rate: '5mbit' }, netem: { rate: '5mbit', delay: '40ms' } } as const
const slowLinks = { far: { delay: '50' }, wavy: { delay: '50ms', jitter: '20ms' } } as const
const badLinks = { good: {}, lossy: { loss: '10%' }, twin: { duplicate: '25' }, bent: { corrupt: '25' } } as const
const allLinks: Readonly<Record<string, Qos>> = { ...rateLinks, ...slowLinks, ...badLinks }

interface Links {
  readonly rates: {
    readonly wire: FrameSocket
    readonly to: Readonly<Record<keyof typeof rateLinks, ByteCounter>>
    /** Where there is no limit. */
    readonly free: Namespace
  }
  readonly slow: { readonly from: Namespace }
  readonly bad: { readonly wire: FrameSocket; readonly to: Readonly<Record<keyof typeof badLinks, Namespace>> }
}

async function plugLinks(bed: ServedTestbed): Promise<Links> {
  const wireOf = (sender: Namespace) => bed.use(sender.run(() => openPacketSocket('veth0')))
  const pacer = await plug(bed, 'pacer', '10.0.0.1/24', { vlan: 1 })
  // The kernel paces what is sent, from a queue that this process can leave alone for a second.
  pacer.run(() => execFileSync('tc', 'qdisc add dev veth0 root netem rate 8500kbit limit 2000'.split(' ')))
  const plugAt = (tap: string, host: number, vlan: number) =>
    plug(bed, tap, `10.0.0.${host}/24`, { vlan, qos: allLinks[tap] ?? {} })
  const rates = {
    wire: wireOf(pacer),
    to: { tbf: received(await plugAt('tbf', 2, 1)), netem: received(await plugAt('netem', 3, 1)) },
    free: await plugAt('free', 4, 1),
  }
  const slow = { from: await plug(bed, 'near', '10.0.0.1/24', { vlan: 2 }) }
  // A virtual machine, where all others are containers.
  await bed.api.createTap({ tap: 'far', vlan: 2, qos: allLinks['far'] ?? {} })
  startGuest(bed, 'far', '10.0.0.2/24')
  await plugAt('wavy', 3, 2)
  const to = {
    good: await plugAt('good', 2, 3),
    lossy: await plugAt('lossy', 3, 3),
    twin: await plugAt('twin', 4, 3),
    bent: await plugAt('bent', 5, 3),
  }
  const marker = await plug(bed, 'marker', '10.0.0.1/24', { vlan: 3 })
  return { rates, slow, bad: { wire: wireOf(marker), to } }
}

/**
 * Pings `count` times, and until one comes back in less than `belowMs`: a busy machine adds to every ping but the
 * luckiest.
 */
async function roundTripsMs(from: Namespace, address: string, count: number, belowMs: number) {
  await ping(from, address)
  using pinger = openPinger(from, address)
  const all: number[] = []
  const told = () => all.map(ms => ms.toFixed(1)).join(' ')
  const isEnough = async () => {
    all.push((await pinger.once(address, 2_000)) ?? Number.POSITIVE_INFINITY)
    if (Math.min(...all) >= belowMs) throw new Error(told())
    return all.length >= count
  }
  await until(`a ping of ${address} within ${belowMs} ms`, isEnough, { deadlineMs: 60_000, everyMs: 0 })
  return { least: Math.min(...all), most: Math.max(...all), all: told() }
}

async function showDelays({ slow }: Links): Promise<void> {
  const far = await roundTripsMs(slow.from, '10.0.0.2', 10, 65)
  assert(far.least >= 50, far.all)
  const wavy = await roundTripsMs(slow.from, '10.0.0.3', 30, 50)
  assert(wavy.least >= 30 && wavy.most > 54, wavy.all)
}

const markedFrame = numberedFrame(0, 100)
const sentFrames = 2_000

/** Sends frames to all the bad links, and answers with how many each got, and what `bent` got. */
async function sendMarked({ bad: { wire, to } }: Links) {
  const received = () => [to.good, to.lossy, to.twin].map(receivedFrames)
  // The first frame is what the datapath learns its flow from.
  const learnt = receivedFrames(to.good)
  wire.send(markedFrame)
  await until('a first frame has passed', () => receivedFrames(to.good) > learnt, { deadlineMs: 30_000 })
  using bent = to.bent.run(() => openPacketSocket('veth0'))
  const before = received()
  const passed = async (frames: number) =>
    await until(`${frames} frames have passed`, () => {
      const [good = 0, lossy = 0, twin = 0] = received().map((count, i) => count - (before[i] ?? 0))
      return good >= frames && { good, lossy, twin }
    })
  // No more on their way than the socket's buffer holds, however long the kernel takes to get at them.
  for (let sent = 0; sent < sentFrames; await passed(sent)) {
    for (const end = sent + 50; sent < end; sent++) wire.send(markedFrame)
  }
  const frames: Buffer[] = []
  await until('the last have come', () => frames.push(...bent.drain().map(({ bytes }) => bytes)) >= sentFrames)
  const { good, lossy, twin } = await passed(sentFrames)
  const damaged = frames.filter(bytes => bytes.length === markedFrame.length && !bytes.equals(markedFrame)).length
  return { good, lossy, twin, damaged }
}

/** Whether `count` of `of` fits a probability of `p`: within 3.29 standard deviations, which are 99.9%. */
function fits(count: number, of: number, p: number): boolean {
  return Math.abs(count - of * p) <= 3.29 * Math.sqrt(of * p * (1 - p))
}

/** One draw in some hundred misses one of the three intervals by chance; three in a row do not. */
async function showDamage(links: Links): Promise<void> {
  const draws: string[] = []
  while (draws.length < 3) {
    const { good, lossy, twin, damaged } = await sendMarked(links)
    draws.push(JSON.stringify({ good, lossy, twin, damaged }))
    if (fits(good - lossy, good, 0.1) && fits(twin - good, good, 0.25) && fits(damaged, good, 0.25)) return
  }
  throw new Error(`not 10% lost, 25% doubled, 25% damaged: ${draws.join(' ')}`)
}

/** The link with a delay beside its rate has both at once. */
async function showRates({ rates: { wire, to, free } }: Links, windowMs: number): Promise<void> {
  // While it is empty: in a full one, the queue alone would take as long.
  const empty = await roundTripsMs(free, '10.0.0.3', 10, 55)
  assert(empty.least >= 40, empty.all)
  await using _ = flood(wire, 10e6 / 8)
  await holdRate(to, received(free), 5e6, windowMs, 80_000)
  await showFullLink(free)
}

/** A full link drops what finds no room, and lets the rest wait for a tenth of a second or three, and not for seconds. */
async function showFullLink(from: Namespace): Promise<void> {
  using pinger = openPinger(from, '10.0.0.3')
  const roundTripsMs: number[] = []
  const twoPass = async () => {
    const roundTripMs = await pinger.once('10.0.0.3', 800)
    if (roundTripMs !== undefined) roundTripsMs.push(roundTripMs)
    return roundTripsMs.length >= 2
  }
  await until('pings pass the full link', twoPass, { deadlineMs: 60_000 })
  assert(Math.min(...roundTripsMs) >= 40, String(roundTripsMs))
}

laneTest(
  'QoS shows on packets as it was asked for, and again after a restart of ovs-vswitchd and after a move',
  { isLong: true, only: 'kernel' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.ensureBridge({ bridge: 'br1' })
    const links = await plugLinks(bed)
    const show = async (windowMs: number) => {
      await showDamage(links)
      await Promise.all([showRates(links, windowMs), showDelays(links)])
    }
    await show(10_000)
    await bed.ovs.vswitchd.restart()
    await show(4_000)
    const { taps } = await bed.api.listTaps()
    await Promise.all(taps.map(({ name }) => bed.api.moveTap({ tap: name, bridge: 'br1' })))
    await show(4_000)
    for (const [tap, qos] of Object.entries(allLinks)) {
      const [wanted, actual] = await qosOf(bed, tap)
      assert.deepEqual(actual, wanted, tap)
      assert.deepEqual(Object.keys(wanted ?? {}), Object.keys(setOf(qos)), tap)
      assert.equal(await timesRestored(bed, tap), 0, 'nothing had to be put back')
    }
  },
)
