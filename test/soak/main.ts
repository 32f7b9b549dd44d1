/**
 * `npm run soak -- --minutes 60`: clients of mixed load while ovs-vswitchd and ovsdb-server are killed every minute. Fails
 * unless the daemon's memory and descriptors stay flat after a warm-up and everything that was acknowledged is there.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { quantile } from '../../bench/bench.js'
import type { Tap } from '../../src/gen/ovs/bridge/v1/tap.js'
import { type DaemonProcess, spawnDaemon } from '../support/daemon-process.js'
import { linkNames } from '../support/namespace.js'
import { randomFrom } from '../support/random.js'
import { type Api, connectTo, isServing } from '../support/rpc.js'
import { startTestbed, type Testbed } from '../support/testbed.js'
import { until } from '../support/until.js'
import { SoakClient, type Tally } from './clients.js'

const clientCount = 32
const sampleEveryMs = 2_000

interface Sample {
  readonly atMs: number
  readonly residentMb: number
  readonly descriptors: number
}

function sample(daemon: DaemonProcess, beganMs: number): Sample {
  const status = readFileSync(`/proc/${daemon.pid}/status`, 'utf8')
  const residentKb = Number(/^VmRSS:\s*(\d+)/m.exec(status)?.[1])
  const descriptors = readdirSync(`/proc/${daemon.pid}/fd`).length
  return { atMs: performance.now() - beganMs, residentMb: residentKb / 1024, descriptors }
}

/** What the command line asks for; undefined where that cannot be. */
function parseOrder(): { readonly minutes: number; readonly seed: number } | undefined {
  const options = { minutes: { type: 'string', default: '60' }, seed: { type: 'string' } } as const
  try {
    const { values } = parseArgs({ options })
    const [minutes, seed] = [Number(values.minutes), Number(values.seed ?? Date.now() % 1_000_000)]
    return minutes >= 1 && Number.isInteger(seed) ? { minutes, seed } : undefined
  } catch {
    return undefined
  }
}

async function main(): Promise<number> {
  const order = parseOrder()
  if (order === undefined) {
    console.error('npm run soak -- [--minutes 60] [--seed N]; a minute at the least')
    return 2
  }
  const { minutes, seed } = order
  const durationMs = minutes * 60_000
  console.log(`soak: ${minutes} minutes, ${clientCount} clients, --seed ${seed}`)
  await using bed = await startTestbed(new AbortController().signal)
  const daemon = bed.use(await spawnDaemon(bed.ovs, { flags: ['--default-bridge', 'br0', '--log-level', 'warn'] }))
  const { api } = bed.use(connectTo(daemon.address))
  await api.ensureBridge()
  const tally: Tally = { changesMs: [], readsMs: [], failures: new Map() }
  const random = randomFrom(seed)
  const clients = Array.from({ length: clientCount }, (_, i) =>
    bed.use(new SoakClient(daemon.address, i, tally, random)),
  )

  const beganMs = performance.now()
  const stop = new AbortController()
  const samples: Sample[] = []
  const failed = new AbortController()
  const running = clients.map(client => client.run(AbortSignal.any([stop.signal, failed.signal])))
  const watched = Promise.all(running).catch((error: unknown) => {
    failed.abort()
    throw error
  })
  watched.catch(() => {})
  let kills = 0
  let nextKillMs = Math.min(20_000, durationMs / 4)
  while (performance.now() - beganMs < durationMs && !failed.signal.aborted) {
    await delay(sampleEveryMs)
    samples.push(sample(daemon, beganMs))
    if (performance.now() - beganMs < nextKillMs) continue
    nextKillMs += 60_000
    kills++
    await bed.ovs.vswitchd.restart()
    await delay(5_000)
    await bed.ovs.ovsdbServer.restart()
  }
  stop.abort()
  await watched
  await until('the daemon serves again', () => isServing(daemon.address), { deadlineMs: 60_000 })
  for (const client of clients) await client.settle()
  await assertKept(api, clients)
  await assertNothingLeft(bed, api)
  report(tally, samples, kills)
  return isFlat(samples, durationMs) ? 0 : 1
}

async function assertKept(api: Api, clients: readonly SoakClient[]): Promise<void> {
  const taps = new Map((await listAll(api)).map(tap => [tap.name, tap]))
  let present = 0
  for (const { beliefs } of clients) {
    for (const [name, belief] of beliefs) {
      const tap = taps.get(name)
      const is = tap === undefined ? undefined : { vlan: tap.vlan, rate: tap.qos?.rate ?? '' }
      if (JSON.stringify(is) !== JSON.stringify(belief)) {
        throw new Error(`${name} was acknowledged as ${JSON.stringify(belief)} and is ${JSON.stringify(is)}`)
      }
      if (belief !== undefined && !linkNames().includes(name)) throw new Error(`${name} has no device`)
      if (belief !== undefined) present++
    }
  }
  console.log(`every acknowledged change is there: ${present} taps`)
}

async function assertNothingLeft(bed: Testbed, api: Api): Promise<void> {
  await api.destroyBridge({ bridge: 'br0' })
  await api.reapTaps()
  await until('all devices are gone', () => !linkNames().some(name => name.startsWith('soak')))
  for (const table of ['Bridge', 'Port', 'Interface', 'QoS']) {
    const rows = await bed.ovs.select(table)
    if (rows.length > 0) throw new Error(`${rows.length} rows are left in ${table}`)
  }
}

async function listAll(api: Api): Promise<Tap[]> {
  const taps: Tap[] = []
  let pageToken = ''
  do {
    const page = await api.listTaps({ pageToken })
    taps.push(...page.taps)
    pageToken = page.nextPageToken
  } while (pageToken !== '')
  return taps
}

function report({ changesMs, readsMs, failures }: Tally, samples: readonly Sample[], kills: number): void {
  const p = (samples: readonly number[]) =>
    [0.5, 0.99].map(share => quantile(samples, share).toFixed(1)).join(' ms, p99 ')
  console.log(
    `${kills} kills of each; answers meanwhile: ${[...failures].map(([code, n]) => `${code} ${n}`).join(', ') || 'none'}`,
  )
  console.log(`changes: ${changesMs.length}, median ${p(changesMs)} ms`)
  console.log(`reads:   ${readsMs.length}, median ${p(readsMs)} ms`)
  for (let i = 0; i < samples.length; i += Math.ceil(samples.length / 10)) {
    const one = samples[i]
    if (one !== undefined) {
      console.log(
        `${(one.atMs / 60_000).toFixed(1)} min: ${one.residentMb.toFixed(0)} MB, ${one.descriptors} descriptors`,
      )
    }
  }
}

/**
 * The least of the last third against the least of the third before: what the collector has not yet taken is no leak. The
 * first third is warm-up.
 */
function isFlat(samples: readonly Sample[], durationMs: number): boolean {
  const within = (from: number, to: number) =>
    samples.filter(({ atMs }) => atMs >= durationMs * from && atMs < durationMs * to)
  const least = (some: readonly Sample[], of: (one: Sample) => number) => Math.min(...some.map(of))
  const [before, after] = [within(1 / 3, 2 / 3), within(2 / 3, Number.POSITIVE_INFINITY)]
  const memory = [before, after].map(some => least(some, one => one.residentMb))
  const descriptors = [before, after].map(some => least(some, one => one.descriptors))
  const [memoryBefore = 0, memoryAfter = 0] = memory
  const [descriptorsBefore = 0, descriptorsAfter = 0] = descriptors
  // In its first minutes a heap of V8's still grows: then only a great leak shows.
  const slackMb = durationMs < 10 * 60_000 ? 64 : 8
  const flat = memoryAfter <= memoryBefore * 1.1 + slackMb && descriptorsAfter <= descriptorsBefore
  console.log(
    `${flat ? 'flat' : 'NOT FLAT'}: ${memory.map(mb => mb.toFixed(0)).join(' → ')} MB, ${descriptors.join(' → ')} descriptors`,
  )
  return flat
}

process.exitCode = await main()
