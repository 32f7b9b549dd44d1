import { setTimeout as delay } from 'node:timers/promises'
import { Client, credentials } from '@grpc/grpc-js'
import { BridgeServiceService } from '../../src/gen/ovs/bridge/v1/service.js'
import { TapKind } from '../../src/gen/ovs/bridge/v1/tap.js'
import { WatchTapStatsRequest } from '../../src/gen/ovs/bridge/v1/watch.js'
import { Disposables } from '../../src/lib/disposables.js'
import { type FrameSocket, openPacketSocket, openTap } from '../../test/support/frame-socket.js'
import { findLink } from '../../test/support/links.js'
import { until } from '../../test/support/until.js'
import type { Bench, Figure, Settings } from '../bench.js'
import { tapNames } from '../bench.js'
import { cpuMs, residentMib } from '../usage.js'
import { fill, type Served, withService } from '../world.js'

export const fanout: Bench = {
  name: 'fanout',
  about: 'WatchTapStats every second: 1,000 taps to 100 subscribers, one tap to 1,000',
  run: settings => withService(settings, served => measureAll(settings, served)),
}

async function measureAll(settings: Settings, served: Served): Promise<Figure[]> {
  const taps = tapNames(settings.smoke ? 20 : 1_000)
  const [few, many] = settings.smoke ? [5, 10] : [100, 1_000]
  await fill(served, taps)
  await using traffic = await startTraffic(served, taps)
  const alone = newSeries()
  const wide = newSeries()
  const narrow = newSeries()
  for (let round = 0; round < settings.rounds; round++) {
    await take(alone, settings, served, 0, [])
    await take(wide, settings, served, few, [])
    await take(narrow, settings, served, many, taps.slice(0, 1))
  }
  if (traffic.failed !== undefined) throw new Error('the traffic has failed', { cause: traffic.failed })
  const what = `fanout: ${taps.length} taps`
  const one = `fanout: one tap of ${taps.length}`
  return [
    { name: `${what}, without subscribers, cpu`, unit: '% of a core', ours: alone.cpu },
    {
      name: `${what}, ${few} subscribers, cpu`,
      unit: '% of a core',
      ours: wide.cpu,
      aim: { kind: 'value', atMost: 30 },
    },
    { name: `${one}, ${many} subscribers, cpu`, unit: '% of a core', ours: narrow.cpu },
    { name: `${what}, without subscribers, resident memory`, unit: 'MiB', ours: alone.memory },
    { name: `${what}, ${few} subscribers, resident memory`, unit: 'MiB', ours: wide.memory },
    { name: `${one}, ${many} subscribers, resident memory`, unit: 'MiB', ours: narrow.memory },
  ]
}

interface Series {
  readonly cpu: number[]
  readonly memory: number[]
}

function newSeries(): Series {
  return { cpu: [], memory: [] }
}

/** One measurement: what the daemon uses while so many subscribers get a tick a second. */
async function take(series: Series, { smoke }: Settings, served: Served, count: number, taps: readonly string[]) {
  const windowMs = smoke ? 2_000 : 20_000
  await using subscribers = subscribe(served.daemon.address, count, taps)
  const haveAll = () => subscribers.messages().every(messages => messages > 1)
  await until('ticks at every subscriber', haveAll, { deadlineMs: 300_000, everyMs: 100 })
  const before = { cpuMs: cpuMs(served.daemon.pid), messages: subscribers.messages(), at: performance.now() }
  await delay(windowMs)
  const elapsedMs = performance.now() - before.at
  series.cpu.push(((cpuMs(served.daemon.pid) - before.cpuMs) / elapsedMs) * 100)
  series.memory.push(residentMib(served.daemon.pid))
  const got = subscribers.messages().map((now, i) => now - (before.messages[i] ?? 0))
  const least = Math.min(...got)
  if (count > 0 && least < elapsedMs / 1_000 - 2) throw new Error(`a subscriber got ${least} ticks in ${elapsedMs} ms`)
}

interface Subscribers extends AsyncDisposable {
  /** How many messages each has got so far. */
  messages(): number[]
}

const subscribersPerConnection = 10

/** Subscribers, ten to a connection, which take what comes and do not look into it. */
function subscribe(address: string, count: number, taps: readonly string[]): Subscribers {
  const { path, requestSerialize } = BridgeServiceService.watchTapStats
  const request = WatchTapStatsRequest.create({
    taps: [...taps],
    kind: TapKind.TUNTAP,
    interval: { seconds: 1n, nanos: 0 },
  })
  const all = new Disposables()
  const messages = new Array<number>(count).fill(0)
  const options = { 'grpc.use_local_subchannel_pool': 1 }
  const clients = Array.from({ length: Math.ceil(count / subscribersPerConnection) }, () => {
    const client = new Client(address, credentials.createInsecure(), options)
    all.defer(() => client.close())
    return client
  })
  for (let i = 0; i < count; i++) {
    const call = clients[i % clients.length]?.makeServerStreamRequest(
      path,
      requestSerialize,
      bytes => bytes.length,
      request,
    )
    if (call === undefined) continue
    call.on('data', () => {
      messages[i] = (messages[i] ?? 0) + 1
    })
    // What comes of it is seen in the count.
    call.on('error', () => {})
    all.defer(() => call.cancel())
  }
  return { messages: () => [...messages], [Symbol.asyncDispose]: () => all[Symbol.asyncDispose]() }
}

interface Traffic extends AsyncDisposable {
  readonly failed: unknown
}

/**
 * Every second a frame to each tap and one from each: counters that stand still are not sent, and rates of nought
 * neither.
 */
async function startTraffic({ api }: Served, taps: readonly string[]): Promise<Traffic> {
  await api.createHostTap({ tap: 'host0', vlan: 10 })
  const mac = findLink('host0')?.mac
  if (mac === undefined) throw new Error('host0 has no device')
  const opened = new Disposables()
  const host = opened.use(openPacketSocket('host0'))
  const ends = taps.map(tap => opened.use(openTap(tap)))
  let failed: unknown
  const turn = () => {
    try {
      exchange(host, ends, Buffer.from(mac.replaceAll(':', ''), 'hex'))
    } catch (error) {
      failed = error
    }
  }
  const timer = setInterval(turn, 1_000)
  opened.defer(() => clearInterval(timer))
  await until('a rate of every tap', () => hasRates(api, taps.length), { deadlineMs: 60_000, everyMs: 500 })
  return {
    get failed() {
      return failed
    },
    [Symbol.asyncDispose]: () => opened[Symbol.asyncDispose](),
  }
}

const payload = Buffer.alloc(400, 0x5a)
/** IEEE 802, local experimental EtherType 1. */
const etherType = Buffer.from('88b5', 'hex')

function exchange(host: FrameSocket, ends: readonly FrameSocket[], hostMac: Buffer): void {
  host.send(Buffer.concat([Buffer.alloc(6, 0xff), hostMac, etherType, payload]))
  for (const [index, end] of ends.entries()) {
    end.drain()
    const mac = Buffer.from([2, 0, 0, 0, index >> 8, index & 0xff])
    end.send(Buffer.concat([hostMac, mac, etherType, payload]))
  }
  host.drain()
}

async function hasRates(api: Served['api'], count: number): Promise<boolean> {
  using stream = api.watchTapStats({ interval: { seconds: 1n, nanos: 0 } })
  // A tick of many taps comes in several messages.
  const running = new Set<string>()
  for (let messages = 0; messages < 30; messages++) {
    const { stats } = await stream.next('a tick', 30_000)
    for (const one of stats) if (one.rxBytesPerSecond > 0 && one.txBytesPerSecond > 0) running.add(one.tap)
    if (running.size >= count) return true
  }
  return false
}
