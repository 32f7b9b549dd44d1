import assert from 'node:assert/strict'
import { inspect } from 'node:util'
import type { TapStats } from '../../src/gen/ovs/bridge/v1/watch.js'
import { type FrameSocket, openPacketSocket, openTap } from '../support/frame-socket.js'
import { lane, laneTest } from '../support/lane.js'
import { blankTap, type RpcStream } from '../support/rpc.js'
import { type ServedTestbed, startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

const frameBytes = 1_000
const frames = 50
/** From none of the taps, to none of them: it is flooded, once, for each has learned nothing. */
const frame = Buffer.concat([Buffer.from('02000000009902000000009888b5', 'hex'), Buffer.alloc(frameBytes - 14, 0x5a)])

type Stream = RpcStream<{ readonly stats: TapStats[] }>

type Tick = ReadonlyMap<string, TapStats>

/** Of ticks that do not fit. */
const tickDeadlineMs = 40_000

/** The next tick that fits. */
async function tick(stream: Stream, what: string, fits: (tick: Tick) => boolean = () => true): Promise<Tick> {
  const deadline = performance.now() + tickDeadlineMs
  for (;;) {
    const { stats } = await stream.next(what)
    const found = new Map(stats.map(one => [one.tap, one]))
    if (fits(found)) return found
    if (performance.now() >= deadline)
      throw new Error(`not within ${tickDeadlineMs} ms: ${what}; last ${inspect(stats)}`)
  }
}

/** The stats of one tap, once they fit. */
async function statsOf(
  stream: Stream,
  tap: string,
  what: string,
  fits: (stats: TapStats) => boolean,
): Promise<TapStats> {
  const found = (await tick(stream, what, now => [now.get(tap)].some(one => one !== undefined && fits(one)))).get(tap)
  assert.ok(found)
  return found
}

interface Plugged {
  readonly tap: string
  readonly socket: FrameSocket
}

/** One tap of each kind on br0, each with what a program at its end has of it. */
async function plugAll(bed: ServedTestbed): Promise<readonly Plugged[]> {
  await bed.api.createTap({ tap: 'vm' })
  const container = bed.createContainer('c')
  await bed.api.createContainerTap({ tap: 'ct', netns: container.path, vethIndex: 0 })
  await bed.api.createHostTap({ tap: 'host0' })
  return [
    { tap: 'vm', socket: bed.use(openTap('vm')) },
    { tap: 'ct', socket: bed.use(container.run(() => openPacketSocket('veth0'))) },
    { tap: 'host0', socket: bed.use(openPacketSocket('host0')) },
  ]
}

/** Sends frames into one tap, and resolves when all others have got them. */
async function flood(all: readonly Plugged[], sender: Plugged): Promise<void> {
  for (let i = 0; i < frames; i++) sender.socket.send(frame)
  for (const { tap, socket } of all) {
    if (tap === sender.tap) continue
    // Read each: the kernel counts a frame towards a tuntap device when somebody takes it.
    for (let i = 0; i < frames; i++)
      await socket.receive(`frame ${i} at ${tap}`, ({ etherType }) => etherType === 0x88b5)
  }
}

const sentBytes = BigInt(frameBytes * frames)

/** The kernel's datapath counts what an internal port has received without the Ethernet header; internal_dev_recv(). */
function receivedBytes(tap: string): bigint {
  return BigInt((lane === 'kernel' && tap === 'host0' ? frameBytes - 14 : frameBytes) * frames)
}

/** What there may be beside: the chatter of IPv6. */
const chatterBytes = 10_000n

function isAbout(bytes: bigint, wanted: bigint): boolean {
  return bytes >= wanted && bytes < wanted + chatterBytes
}

laneTest('what an endpoint sends is its tx and the rx of the others, for every kind of tap', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const all = await plugAll(bed)
  using stream = bed.api.watchTapStats({ interval: { seconds: 0n, nanos: 200_000_000 } })
  for (const sender of all) {
    const before = await tick(stream, 'counters before')
    await flood(all, sender)
    const grown = (now: Tick, tap: string, of: 'rxBytes' | 'txBytes') =>
      (now.get(tap)?.[of] ?? 0n) - (before.get(tap)?.[of] ?? 0n)
    const after = await tick(stream, `${sender.tap} sends`, now =>
      all.every(({ tap }) =>
        tap === sender.tap ? grown(now, tap, 'txBytes') >= sentBytes : grown(now, tap, 'rxBytes') >= receivedBytes(tap),
      ),
    )
    for (const { tap } of all) {
      const [own, other] = tap === sender.tap ? (['txBytes', 'rxBytes'] as const) : (['rxBytes', 'txBytes'] as const)
      const found = `${grown(after, tap, own)} and ${grown(after, tap, other)} at ${tap} of what ${sender.tap} sent`
      const wanted = tap === sender.tap ? sentBytes : receivedBytes(tap)
      assert.ok(isAbout(grown(after, tap, own), wanted) && isAbout(grown(after, tap, other), 0n), found)
    }
  }
})

laneTest(
  'the counters that Open vSwitch tells by itself say the same, and the bandwidth follows',
  { isLong: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const all = await plugAll(bed)
    using stream = bed.api.watchTapStats()
    await tick(stream, 'a first reading of all', now => all.every(({ tap }) => now.get(tap)?.time !== undefined))
    for (const sender of all) await flood(all, sender)
    const after = await tick(stream, 'what all have sent', now =>
      all.every(({ tap }) => (now.get(tap)?.rxBytes ?? 0n) >= 2n * receivedBytes(tap)),
    )
    for (const { tap } of all) {
      const { rxBytes = 0n, txBytes = 0n, intervals = 0 } = after.get(tap) ?? {}
      assert.ok(
        isAbout(txBytes, sentBytes) && isAbout(rxBytes, 2n * receivedBytes(tap)),
        `${tap}: tx ${txBytes} rx ${rxBytes}`,
      )
      assert.ok(intervals > 0)
    }
    const [whole, ...each] = await Promise.all([
      bed.api.getBandwidth({ bridge: 'br0' }),
      ...all.map(({ tap }) => bed.api.getBandwidth({ tap })),
    ])
    for (const of of ['rxBytesPerSecond', 'txBytesPerSecond'] as const) {
      assert.ok(
        each.every(one => one[of] > 1_000 && one[of] < 50_000),
        JSON.stringify(each),
      )
      const total = each.reduce((sum, one) => sum + one[of], 0)
      assert.ok(Math.abs(whole[of] - total) < 1, `${whole[of]} is the sum of ${total}`)
    }
  },
)

laneTest(
  'a host tap that is moved keeps its counters and shows no absurd rate, and so does the next run of the service',
  {},
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.ensureBridge({ bridge: 'br1' })
    await bed.api.createHostTap({ tap: 'host0' })
    using stream = bed.api.watchTapStats({ taps: ['host0'], interval: { seconds: 0n, nanos: 200_000_000 } })
    const socket = bed.use(openPacketSocket('host0'))
    for (let i = 0; i < frames; i++) socket.send(frame)
    const bytes = BigInt(frameBytes * frames)
    const before = await statsOf(stream, 'host0', 'the bytes', ({ txBytes }) => txBytes >= bytes)
    await bed.api.removeTap({ tap: 'host0' })
    const detached = await statsOf(stream, 'host0', 'a detached tap', ({ bridge }) => bridge === '')
    assert.ok(detached.txBytes >= before.txBytes && detached.intervals === 0)
    await bed.api.addTap({ tap: 'host0', bridge: 'br1' })
    const after = await statsOf(
      stream,
      'host0',
      'a rate again',
      ({ bridge, intervals }) => bridge === 'br1' && intervals > 0,
    )
    assert.ok(after.txBytes >= before.txBytes, `${after.txBytes} after ${before.txBytes}`)
    assert.ok(after.txBytesPerSecond >= 0 && after.txBytesPerSecond < frameBytes * frames, `${after.txBytesPerSecond}`)
    await until(
      'the record to keep what the former device had counted',
      async () => JSON.stringify(await bed.ovs.select('QoS')).includes('counted'),
      { deadlineMs: 20_000, everyMs: 50 },
    )
    await bed.service[Symbol.asyncDispose]()
    const next = bed.use(await startService(bed))
    using anew = next.api.watchTapStats({ taps: ['host0'], interval: { seconds: 0n, nanos: 200_000_000 } })
    const first = await statsOf(anew, 'host0', 'a first reading', ({ time }) => time !== undefined)
    assert.ok(first.txBytes >= after.txBytes && first.intervals === 0, `${first.txBytes} after ${after.txBytes}`)
    const second = await statsOf(anew, 'host0', 'a rate', ({ intervals }) => intervals > 0)
    assert.ok(second.txBytesPerSecond < frameBytes * frames, `${second.txBytesPerSecond}`)
  },
)

laneTest(
  'who stops reading misses ticks and is told how many, and holds up nobody',
  { isLong: true, looksInside: true, only: 'userspace', timeoutMs: 120_000 },
  async context => {
    await using bed = await startServedTestbed(context.signal, '--metrics-listen', '127.0.0.1:0')
    const taps = Array.from({ length: 300 }, (_, i) => ({ ...blankTap, tap: `t${i}` }))
    await bed.api.createTaps({ taps })
    const interval = { seconds: 0n, nanos: 200_000_000 }
    using slow = bed.api.watchTapStats({ interval })
    using reader = bed.api.watchTapStats({ interval, taps: ['t7'] })
    await slow.next('a first tick')
    const held = async () => {
      const page = await (await fetch(bed.service.daemon.metricsUrl ?? '')).text()
      return page.includes('\novs_bridged_streams_held{method="WatchTapStats"} 1\n')
    }
    while (!(await held())) await reader.next('a tick for who reads')
    for (let i = 0; i < 3; i++) await reader.next('a tick more')
    for (;;) {
      const { skippedTicks, stats } = await slow.next('a tick that tells of others')
      assert.equal(stats.length, 300)
      if (skippedTicks > 0n) break
    }
  },
)

laneTest(
  'an interval under 200 ms, one of too many, and the bandwidth of what is not there are refused',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    using stream = bed.api.watchTapStats({ interval: { seconds: 0n, nanos: 199_000_000 } })
    await assert.rejects(stream.next(), {
      code: 'INVALID_ARGUMENT',
      violations: { interval: 'is 199 ms; the least is 200 ms' },
    })
    const streams = Array.from({ length: 16 }, (_, i) =>
      bed.use(bed.api.watchTapStats({ interval: { seconds: 0n, nanos: (200 + i) * 1_000_000 } })),
    )
    for (const one of streams) await one.next('a tick')
    using same = bed.api.watchTapStats({ interval: { seconds: 0n, nanos: 215_000_000 } })
    await same.next('a tick at an interval that others have')
    const another = { interval: { seconds: 1n, nanos: 0 } }
    using refused = bed.api.watchTapStats(another)
    await assert.rejects(refused.next(), { code: 'RESOURCE_EXHAUSTED', reason: 'EXHAUSTED' })
    streams[0]?.[Symbol.dispose]()
    await until('room for another interval', async () => {
      using later = bed.api.watchTapStats(another)
      return await later.next('a tick')
    })
    await assert.rejects(bed.api.getBandwidth({ tap: 'nope' }), { code: 'NOT_FOUND', reason: 'TAP_NOT_FOUND' })
    await assert.rejects(bed.api.getBandwidth({ bridge: 'nope' }), { code: 'NOT_FOUND', reason: 'BRIDGE_NOT_FOUND' })
    assert.deepEqual(await bed.api.getBandwidth(), { rxBytesPerSecond: 0, txBytesPerSecond: 0, intervals: 0 })
  },
)
