import assert from 'node:assert/strict'
import type { TapStats } from '../../src/gen/ovs/bridge/v1/watch.js'
import { startGuest } from '../support/guest.js'
import { type Flow, startFlow } from '../support/iperf.js'
import { lane, laneTest } from '../support/lane.js'
import { addAddress } from '../support/links.js'
import { ping } from '../support/ping.js'
import { plug } from '../support/plug.js'
import type { Api } from '../support/rpc.js'
import { type ServedTestbed, startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

const payloadBytes = 1_400
/** With the headers of Ethernet, IPv4 and UDP. */
const wireBytes = payloadBytes + 14 + 20 + 8

/** What each tap sends, and its neighbour in the ring receives; each rate is another one, so that none stands for another. */
const megabits = lane === 'userspace' ? { vm: 4, ct: 8, host0: 2 } : { vm: 1, ct: 2, host0: 0.5 }

type TapName = keyof typeof megabits

const taps = ['vm', 'ct', 'host0'] as const
/** Who sends to a tap. */
const senders: Readonly<Record<TapName, TapName>> = { ct: 'vm', host0: 'ct', vm: 'host0' }

const tolerance = 0.05
/** Of a reading that is taken, to what was asked for: what iperf3 sends differs from that, too. */
const readingTolerance = 0.03

/** What iperf3 tells is over so long at least. */
const flowSeconds = 20

function isNear(measured: number, wanted: number, within: number): boolean {
  return Math.abs(measured - wanted) <= wanted * within
}

/** Of each tap, in bytes a second on the wire. */
type Rates = Readonly<Record<TapName, number>>

/** What the service says of a tap. */
interface Measured {
  readonly tap: string
  readonly rx: number
  readonly tx: number
  readonly intervals: number
}

type Told = Pick<TapStats, 'rxBytesPerSecond' | 'txBytesPerSecond' | 'intervals'>

function measured(tap: string, { rxBytesPerSecond: rx, txBytesPerSecond: tx, intervals }: Told): Measured {
  return { tap, rx, tx, intervals }
}

/** All taps are there, with what iperf3 sends into the one and into the other. */
function agree(all: readonly Measured[], sent: Rates, within = tolerance): boolean {
  return taps.every(name => {
    const found = all.find(({ tap }) => tap === name)
    return found !== undefined && isNear(found.tx, sent[name], within) && isNear(found.rx, sent[senders[name]], within)
  })
}

/** A virtual machine, a container and the host itself on one bridge, each sending to the next. */
async function startRing(bed: ServedTestbed): Promise<Readonly<Record<TapName, Flow>>> {
  await bed.api.createTap({ tap: 'vm' })
  await bed.api.createHostTap({ tap: 'host0' })
  const vm = startGuest(bed, 'vm', '10.0.0.1/24')
  const ct = await plug(bed, 'ct', '10.0.0.2/24')
  addAddress('host0', '10.0.0.3/24')
  await ping(vm, '10.0.0.2')
  await ping(ct, '10.0.0.3')
  const start = async (from: TapName, source: typeof ct, target: typeof ct, address: string) =>
    bed.use(await startFlow(source, target, { address, megabits: megabits[from], payloadBytes }))
  return {
    vm: await start('vm', vm, ct, '10.0.0.2'),
    ct: await start('ct', ct, bed.namespace, '10.0.0.3'),
    host0: await start('host0', bed.namespace, vm, '10.0.0.1'),
  }
}

/** What `read` gives once it agrees: a busy machine may spoil some. */
async function untilAgreed(what: string, sent: Rates, read: () => Promise<readonly Measured[]>) {
  let last: readonly Measured[] = []
  const again = async () => {
    last = await read()
    return agree(last, sent, readingTolerance) ? last : undefined
  }
  return await until(what, again, { deadlineMs: 60_000, everyMs: 100 }).catch((error: unknown) => {
    throw new Error(`${JSON.stringify(last)} and not ${JSON.stringify(sent)}`, { cause: error })
  })
}

/** Over ten intervals of 0.5 s, each read from the kernel. */
async function ratesOfTen(api: Api, sent: Rates): Promise<readonly Measured[]> {
  using stream = api.watchTapStats({ interval: { seconds: 0n, nanos: 500_000_000 } })
  return await untilAgreed('rates over ten intervals', sent, async () =>
    (await stream.next()).stats.filter(({ intervals }) => intervals === 10).map(stats => measured(stats.tap, stats)),
  )
}

/** Over the intervals of 5 s that the service has seen, as Open vSwitch tells them. */
async function bandwidths(api: Api, sent: Rates): Promise<readonly Measured[]> {
  return await untilAgreed(
    'bandwidths',
    sent,
    async () => await Promise.all(taps.map(async tap => measured(tap, await api.getBandwidth({ tap })))),
  )
}

laneTest(
  'the rates of VM, container and host are those that iperf3 tells, also after a restart of the daemon amid the flow',
  { isLong: true, timeoutMs: lane === 'userspace' ? 180_000 : 400_000 },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const flows = await startRing(bed)
    const beganAt = performance.now()
    const onWire = (payload: number) => (payload / payloadBytes) * wireBytes
    const each = async (rate: (tap: TapName) => number | Promise<number>): Promise<Rates> => ({
      vm: onWire(await rate('vm')),
      ct: onWire(await rate('ct')),
      host0: onWire(await rate('host0')),
    })
    const asked = await each(tap => (megabits[tap] * 1e6) / 8)
    const ten = await ratesOfTen(bed.api, asked)
    await bed.service[Symbol.asyncDispose]()
    const { api } = bed.use(await startService(bed))
    const anew = await bandwidths(api, asked)
    await until('iperf3 has sent for a while', () => performance.now() > beganAt + flowSeconds * 1_000, {
      deadlineMs: flowSeconds * 1_000,
      everyMs: 100,
    })
    const sent = await each(async tap => {
      const { seconds, bytesPerSecond } = await flows[tap].end()
      assert.ok(seconds >= flowSeconds, `${tap} has sent for ${seconds} s`)
      return bytesPerSecond
    })
    const told = JSON.stringify({ sent, ten, anew }, (_, value: unknown) =>
      typeof value === 'number' ? Math.round(value) : value,
    )
    context.diagnostic(told)
    assert.ok(agree(ten, sent) && agree(anew, sent), told)
  },
)
