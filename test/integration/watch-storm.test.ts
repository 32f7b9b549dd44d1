import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Tap } from '../../src/gen/ovs/bridge/v1/tap.js'
import { arp } from '../support/address-frames.js'
import { type FrameSocket, openTap } from '../support/frame-socket.js'
import { type HeldAddresses, holdAddresses } from '../support/held-addresses.js'
import { type HeldTaps, holdTaps } from '../support/held-taps.js'
import { lane, laneTest } from '../support/lane.js'
import { randomFrom } from '../support/random.js'
import { type Api, blankTap, connectTo } from '../support/rpc.js'
import { startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

const visitorCount = 100
/** The user-mode kernel is some ten times slower. */
const visits = lane === 'userspace' ? 10_000 : 1_000
const moves = lane === 'userspace' ? 100 : 20
const tapNames = Array.from({ length: lane === 'userspace' ? 50 : 10 }, (_, i) => `t${String(i).padStart(2, '0')}`)
/** Whose machines say where they are. */
const talkers = tapNames.slice(0, 5)

/** Bytes in use on the heap once nothing is left to collect. */
function heapBytes(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc(); gc()')
  return process.memoryUsage().heapUsed
}

/**
 * Somebody who subscribes to something, reads a bit of it, and goes. It waits for the first message: a call that is
 * cancelled while it is on its way grpc-js leaves open.
 */
async function visit(api: Api, random: () => number): Promise<void> {
  const filter = random() < 0.5 ? {} : { vlan: Math.floor(random() * 4) }
  const kind = random()
  if (kind < 0.2) {
    const interval = { seconds: 0n, nanos: 200_000_000 + Math.floor(random() * 10) * 1_000_000 }
    using stream = api.watchTapStats({ ...filter, interval })
    await stream.next(`a tick every ${interval.nanos} ns`, 60_000)
  } else {
    using stream = kind < 0.6 ? api.watchTaps(filter) : api.watchAddresses(filter)
    const isPatient = random() < 0.5
    for (;;) {
      const { synced } = await stream.next(`a snapshot of ${JSON.stringify(filter)}`, 60_000)
      if (synced || !isPatient) return
    }
  }
}

/**
 * Visits by all visitors at once, until there were so many. Each has a connection of its own: one that gives up more than
 * a thousand streams in a row is closed by nghttp2, which takes it for an attack (CVE-2023-44487).
 */
async function visitAll(address: string, count: number, seed: number): Promise<void> {
  let left = count
  const visitor = async (_: unknown, index: number) => {
    using connection = connectTo(address, { own: true })
    const random = randomFrom(seed * visitorCount + index)
    while (left-- > 0) await visit(connection.api, random)
  }
  await Promise.all(Array.from({ length: visitorCount }, visitor))
}

function addressOf(talker: number, host: number): string {
  return `10.0.${talker}.${host}`
}

function talk(talker: number, host: number): Buffer {
  return arp({ source: `02:00:00:00:00:0${talker}`, ip: addressOf(talker, host) })
}

/** Moves taps between VLANs; meanwhile the talkers, which stay where they are, come by addresses. */
async function moveAbout(api: Api, machines: readonly FrameSocket[], random: () => number): Promise<void> {
  const movable = tapNames.slice(talkers.length)
  for (let i = 0; i < moves; i++) {
    const tap = movable[Math.floor(random() * movable.length)] ?? ''
    await api.moveTap({ tap, vlan: Math.floor(random() * 4) })
    const talker = Math.floor(random() * machines.length)
    machines[talker]?.send(talk(talker, 1 + Math.floor(random() * 8)))
  }
}

/** Takes in what is left to be told, and compares with the taps that are listed. */
async function assertHolds(held: HeldTaps, addresses: HeldAddresses, listed: readonly Tap[], what: string) {
  await held.until(`${what} holds what is listed`, ({ taps }) =>
    isDeepStrictEqual(
      [...taps.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
      listed,
    ),
  )
  const shown = listed.flatMap(tap => tap.addresses.map(({ vlan, ip }) => `${tap.name} ${vlan} ${ip}`)).sort()
  await addresses.until(`${what} holds the addresses ${shown.join(', ')}`, ({ addresses: now }) =>
    isDeepStrictEqual([...now.keys()].sort(), shown),
  )
}

/** Has each talker say one address more, and waits until all of them are known: then all before them is, too. */
async function settle(api: Api, machines: readonly FrameSocket[]): Promise<void> {
  for (const [index, machine] of machines.entries()) machine.send(talk(index, 250))
  await until('the last addresses are known', async () => {
    const { taps } = await api.listTaps()
    return machines.every((_, index) => taps.some(({ ip4 }) => ip4 === addressOf(index, 250)))
  })
}

laneTest(
  'subscriptions that come and go leave nothing behind, and who stays holds what is listed',
  { isLong: true, looksInside: true, timeoutMs: lane === 'userspace' ? 300_000 : 400_000 },
  async context => {
    const seed = Number(process.env['OVS_BRIDGED_TEST_SEED'] ?? Date.now() % 1_000_000)
    context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
    await using bed = await startServedTestbed(context.signal)
    const { api, service } = bed
    await api.createTaps({ taps: tapNames.map((tap, i) => ({ ...blankTap, tap, vlan: i % 4 })) })
    const machines = talkers.map(tap => bed.use(openTap(tap)))
    const stayers = await Promise.all(
      [{}, { vlan: 1 }, { vlan: 2 }].map(async filter => ({
        filter,
        held: await holdTaps(api, filter),
        addresses: await holdAddresses(api, filter),
      })),
    )
    // They read again at the end.
    const idle = { filter: {}, held: await holdTaps(api), addresses: await holdAddresses(api) }
    await visitAll(service.address, visits / 5, seed)
    await moveAbout(api, machines, randomFrom(seed))
    const before = heapBytes()
    await visitAll(service.address, visits, seed + 1)
    let grownBytes = Number.POSITIVE_INFINITY
    // What is on its way out when the last has gone is no leak; some hundred bytes for each would be.
    const isFlat = () => {
      grownBytes = heapBytes() - before
      return grownBytes < 8 * 2 ** 20
    }
    await until('a heap as before', isFlat, { deadlineMs: 30_000, everyMs: 500 }).finally(() => {
      context.diagnostic(`after ${visits} visits the heap has grown by ${Math.round(grownBytes / 1024)} KiB`)
    })

    await Promise.all([
      moveAbout(api, machines, randomFrom(seed + 2)),
      visitAll(service.address, visits / 10, seed + 3),
    ])
    await settle(api, machines)
    for (const { filter, held, addresses } of [...stayers, idle]) {
      await assertHolds(held, addresses, (await api.listTaps(filter)).taps, JSON.stringify(filter))
    }
    await service[Symbol.asyncDispose]()
    const next = bed.use(await startService(bed))
    for (const { filter, held, addresses } of stayers) {
      const from = ({ epoch, revision }: { epoch: string; revision: bigint }) => ({ ...filter, epoch, revision })
      using anew = await holdTaps(next.api, from(held.last))
      using addressesAnew = await holdAddresses(next.api, from(addresses.last))
      assert.deepEqual([anew.told[0], addressesAnew.told[0]], ['reset', 'reset'])
      const { taps } = await next.api.listTaps(filter)
      await assertHolds(anew, addressesAnew, taps, `after the restart ${JSON.stringify(filter)}`)
    }
  },
)
