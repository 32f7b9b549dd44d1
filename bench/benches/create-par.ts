import { CreateTapRequest } from '../../src/gen/ovs/bridge/v1/tap.js'
import { type Bench, byCallers, inTurn, type Settings, tapNames, timed } from '../bench.js'
import { addAtOnce, addOneByOne, wholeLoopMs } from '../by-hand.js'
import { openLeanCaller } from '../lean-caller.js'
import { openRawScript, warmUp, withLeastService } from '../raw-script.js'
import { bulkTimeoutMs, expectTaps, requestOf, type World, withoutService, withService } from '../world.js'

const callers = 64

export const createPar: Bench = {
  name: 'create-par',
  about: `CreateTap by ${callers} callers at once`,
  async run(settings) {
    const count = settings.smoke ? 20 : 1_000
    const taps = tapNames(count)
    const samples = await inTurn(settings.rounds, {
      service: () => withService(settings, served => createLean(served, served.daemon.address, taps)),
      nodeClient: () =>
        withService(settings, served =>
          createByCallers(served, taps, tap => served.api.createTap({ tap, vlan: 10 }, { timeoutMs: bulkTimeoutMs })),
        ),
      loop: () => sampleLoop(settings, taps),
      batch: () => createAtOnce(settings, taps),
      waves: () => createInWaves(settings, taps),
      least: () =>
        withLeastService(settings, { callers, calls: taps.length }, served => createLean(served, served.address, taps)),
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
    await warmUp(settings, world, script.addTap)
    const ms = await timed(async () => {
      for (let i = 0; i < taps.length; i += callers) await script.addTaps(taps.slice(i, i + callers))
    })
    await expectTaps(world, taps.length)
    return ms
  })
}

/** By callers that cost nothing, all on one connection. */
async function createLean(world: World, address: string, taps: readonly string[]): Promise<number> {
  using caller = await openLeanCaller(address, '/ovs.bridge.v1.BridgeService/CreateTap')
  const requests = taps.map(tap => CreateTapRequest.encode(requestOf(tap)).finish())
  return await createByCallers(world, requests, caller.call)
}

/** Each request makes one tap. */
async function createByCallers<T>(
  world: World,
  requests: readonly T[],
  create: (request: T) => Promise<unknown>,
): Promise<number> {
  const ms = await timed(() => byCallers(callers, requests, create))
  await expectTaps(world, requests.length)
  return ms
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
