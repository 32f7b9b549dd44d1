import { CreateTapRequest } from '../../src/gen/ovs/bridge/v1/tap.js'
import { type Bench, byCallers, inTurn, type Settings, tapNames, timed } from '../bench.js'
import { addAtOnce, addOneByOne, deleteDevicesAtOnce, deletePortsAtOnce, wholeLoopMs } from '../by-hand.js'
import { openLeanCaller } from '../lean-caller.js'
import { openRawScript, withLeastService } from '../raw-script.js'
import { bulkTimeoutMs, expectTaps, requestOf, type Served, type World, withoutService, withService } from '../world.js'

const callers = 64

export const createPar: Bench = {
  name: 'create-par',
  about: `CreateTap by ${callers} callers at once`,
  async run(settings) {
    const count = settings.smoke ? 20 : 1_000
    const taps = tapNames(count)
    const samples = await inTurn(settings.rounds, {
      service: () =>
        withService(settings, async served => {
          const create: Create = some => createLean(served.daemon.address, some)
          await warmUpBy(settings, served, create, some => destroyByCallers(served, some))
          return await timeCreation(served, taps, create)
        }),
      nodeClient: () =>
        withService(settings, async served => {
          const create: Create = some =>
            byCallers(callers, some, tap => served.api.createTap({ tap, vlan: 10 }, { timeoutMs: bulkTimeoutMs }))
          await warmUpBy(settings, served, create, some => destroyByCallers(served, some))
          return await timeCreation(served, taps, create)
        }),
      loop: () => sampleLoop(settings, taps),
      batch: () => createAtOnce(settings, taps),
      waves: () => createInWaves(settings, taps),
      least: () =>
        withLeastService(settings, { callers, calls: taps.length + warmCalls(settings) }, async served => {
          const create: Create = some => createLean(served.address, some)
          await warmUpBy(settings, served, create, some => removeByHand(served, some))
          return await timeCreation(served, taps, create)
        }),
    })
    const what = `create-par: ${count} CreateTap, ${callers} callers`
    const common = { unit: 'ms', ours: samples.service } as const
    const floor = { unit: 'ms', ours: samples.least } as const
    return [
      {
        ...common,
        name: `${what} / loop of ip and ovs-vsctl`,
        theirs: samples.loop,
        aim: { kind: 'times-faster', atLeast: 40 },
      },
      {
        ...common,
        name: `${what} / ip -batch and one ovs-vsctl`,
        theirs: samples.batch,
        aim: { kind: 'times-as-long', atMost: 1.3 },
      },
      {
        name: `${what} in one client of @grpc/grpc-js / loop of ip and ovs-vsctl`,
        unit: 'ms',
        ours: samples.nodeClient,
        theirs: samples.loop,
      },
      { ...common, name: `${what} / raw JSON-RPC script, ${callers} at a time`, theirs: samples.waves },
      { ...common, name: `${what} / the least service`, theirs: samples.least },
      { ...floor, name: `${what} of the least service / loop of ip and ovs-vsctl`, theirs: samples.loop },
      { ...floor, name: `${what} of the least service / ip -batch and one ovs-vsctl`, theirs: samples.batch },
      {
        name: `create-par: ${count} taps by raw JSON-RPC script, ${callers} at a time / ip -batch and one ovs-vsctl`,
        unit: 'ms',
        ours: samples.waves,
        theirs: samples.batch,
      },
    ]
  },
}

/** Made at once by hand: ms. */
export function createAtOnce(settings: Settings, taps: readonly string[]): Promise<number> {
  return withoutService(settings, async world => {
    const ms = await timed(() => addAtOnce(world, taps))
    await expectTaps(world, taps.length)
    return ms
  })
}

/** As many as there are callers are made at a time, and no service stands between. */
function createInWaves(settings: Settings, taps: readonly string[]): Promise<number> {
  return withoutService(settings, async world => {
    using script = await openRawScript(world.ovs.endpoint)
    const create: Create = async some => {
      for (let i = 0; i < some.length; i += callers) await script.addTaps(some.slice(i, i + callers))
    }
    await warmUpBy(settings, world, create, some => removeByHand(world, some))
    return await timeCreation(world, taps, create)
  })
}

/** A way to make taps. */
type Create = (taps: readonly string[]) => Promise<void>

/** More than callers, so that answers and next calls come together. */
const warmTaps = tapNames(150, 200_000)

function warmTimes({ smoke }: Settings): number {
  return smoke ? 1 : 7
}

function warmCalls(settings: Settings): number {
  return warmTimes(settings) * warmTaps.length
}

/**
 * Makes and removes taps as they will be made when it is measured. What V8 has compiled for one client it throws away when the
 * objects of the next look different, and compiles again, on the processors that the measurement needs.
 */
async function warmUpBy(settings: Settings, world: World, create: Create, remove: Create): Promise<void> {
  for (let i = 0; i < warmTimes(settings); i++) {
    await create(warmTaps)
    await remove(warmTaps)
  }
  await world.ovs.configure()
}

async function timeCreation(world: World, taps: readonly string[], create: Create): Promise<number> {
  const ms = await timed(() => create(taps))
  await expectTaps(world, taps.length)
  return ms
}

/** By callers that cost nothing, all on one connection. */
async function createLean(address: string, taps: readonly string[]): Promise<void> {
  using caller = await openLeanCaller(address, '/ovs.bridge.v1.BridgeService/CreateTap')
  const requests = taps.map(tap => CreateTapRequest.encode(requestOf(tap)).finish())
  await byCallers(callers, requests, caller.call)
}

async function destroyByCallers({ api }: Served, taps: readonly string[]): Promise<void> {
  await byCallers(callers, taps, tap => api.destroyTap({ tap }))
  await api.reapTaps()
}

async function removeByHand(world: World, taps: readonly string[]): Promise<void> {
  await deletePortsAtOnce(world, taps)
  await deleteDevicesAtOnce(world, taps)
}

/** The loop's time for all taps, of which only the first and the last are made by it. */
function sampleLoop(settings: Settings, taps: readonly string[]): Promise<number> {
  const sampled = settings.smoke ? 3 : 50
  return withoutService(settings, async world => {
    const first = await timed(() => addOneByOne(world, taps.slice(0, sampled)))
    await addAtOnce(world, taps.slice(sampled, -sampled))
    const last = await timed(() => addOneByOne(world, taps.slice(-sampled)))
    await expectTaps(world, taps.length)
    return wholeLoopMs(taps.length, sampled, [first, last])
  })
}
