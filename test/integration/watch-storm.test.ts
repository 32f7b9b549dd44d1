import assert from 'node:assert/strict'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Tap } from '../../src/gen/ovs/bridge/v1/tap.js'
import { type HeldTaps, holdTaps } from '../support/held-taps.js'
import { laneTest } from '../support/lane.js'
import { randomFrom } from '../support/random.js'
import { type Api, connectTo } from '../support/rpc.js'
import { startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

const visitorCount = 100
const visits = 10_000
const moves = 100
const tapNames = Array.from({ length: 50 }, (_, i) => `t${String(i).padStart(2, '0')}`)

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
  if (random() < 0.2) {
    const interval = { seconds: 0n, nanos: 200_000_000 + Math.floor(random() * 10) * 1_000_000 }
    using stream = api.watchTapStats({ ...filter, interval })
    await stream.next(`a tick every ${interval.nanos} ns`, 60_000)
  } else {
    using stream = api.watchTaps(filter)
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

async function moveAbout(api: Api, random: () => number): Promise<void> {
  for (let i = 0; i < moves; i++) {
    const tap = tapNames[Math.floor(random() * tapNames.length)] ?? ''
    await api.moveTap({ tap, vlan: Math.floor(random() * 4) })
  }
}

/** Takes in what is left to be told, and compares. */
async function assertHolds(held: HeldTaps, listed: readonly Tap[], what: string): Promise<void> {
  const same = () => {
    const taps = [...held.taps.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
    return JSON.stringify(taps) === JSON.stringify(listed)
  }
  await held.until(`${what} holds what is listed`, same)
}

laneTest(
  'ten thousand subscriptions that come and go leave nothing behind, and who stays holds what is listed',
  { looksInside: true, only: 'userspace', timeoutMs: 300_000 },
  async context => {
    const seed = Number(process.env['OVS_BRIDGED_TEST_SEED'] ?? Date.now() % 1_000_000)
    context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTaps({ taps: tapNames.map(tap => ({ ...noTap, tap })) })
    const stayers = await Promise.all(
      [{}, { vlan: 1 }, { vlan: 2 }].map(async filter => ({ filter, held: await holdTaps(bed.api, filter) })),
    )
    const idle = await holdTaps(bed.api)
    await visitAll(bed.service.address, visits / 5, seed)
    await moveAbout(bed.api, randomFrom(seed))
    const before = heapBytes()
    await visitAll(bed.service.address, visits, seed + 1)
    let grownBytes = Number.POSITIVE_INFINITY
    // What is on its way out when the last has gone is no leak; some hundred bytes for each would be.
    const isFlat = () => {
      grownBytes = heapBytes() - before
      return grownBytes < 8 * 2 ** 20
    }
    await until('a heap as before', isFlat, { deadlineMs: 30_000, everyMs: 500 }).finally(() => {
      context.diagnostic(`the heap has grown by ${Math.round(grownBytes / 1024)} KiB`)
    })

    await Promise.all([moveAbout(bed.api, randomFrom(seed + 2)), visitAll(bed.service.address, 1_000, seed + 3)])
    for (const { filter, held } of [...stayers, { filter: {}, held: idle }]) {
      await assertHolds(held, (await bed.api.listTaps(filter)).taps, JSON.stringify(filter))
    }
    await bed.service[Symbol.asyncDispose]()
    const { api } = bed.use(await startService(bed))
    for (const { filter, held } of stayers) {
      const { epoch, revision } = held.last
      using anew = await holdTaps(api, { ...filter, epoch, revision })
      assert.equal(anew.told[0], 'reset')
      await assertHolds(anew, (await api.listTaps(filter)).taps, `after the restart ${JSON.stringify(filter)}`)
    }
  },
)

const noTap = { bridge: '', mac: '', vlan: 0, mtu: 0, multiQueue: false }
