import { type Bench, byCallers, inTurn, type Settings, tapNames, timed } from '../bench.js'
import { addAtOnce, addOneByOne, removeAtOnce, wholeLoopMs } from '../by-hand.js'
import { type Change, countOf, createLean, destroyAll, type Practice, practiceOf, timeCreation } from '../creation.js'
import { openRawScript, withLeastService } from '../raw-script.js'
import { bulkTimeoutMs, expectTaps, withoutService, withService } from '../world.js'

const callers = 64

/** More than callers, so that answers and next calls come together. */
const practiceTaps = 150

export const createPar: Bench = {
  name: 'create-par',
  about: `CreateTap by ${callers} callers at once`,
  async run(settings) {
    const count = settings.smoke ? 20 : 1_000
    const taps = tapNames(count)
    const practice = practiceOf(settings, practiceTaps)
    const samples = await inTurn(settings.rounds, {
      service: () =>
        withService(settings, async served => {
          const create: Change = some => createLean(served.daemon.address, callers, some)
          const remove: Change = some => destroyAll(served, some)
          return await timeCreation(served, taps, practice, create, remove)
        }),
      nodeClient: () =>
        withService(settings, async served => {
          const create: Change = some =>
            byCallers(callers, some, tap => served.api.createTap({ tap, vlan: 10 }, { timeoutMs: bulkTimeoutMs }))
          const remove: Change = some => destroyAll(served, some)
          return await timeCreation(served, taps, practice, create, remove)
        }),
      loop: () => sampleLoop(settings, taps),
      batch: () => createAtOnce(settings, taps),
      waves: () => createInWaves(settings, taps, practice),
      least: () =>
        withLeastService(settings, { callers, calls: countOf(practice) + count }, async served => {
          const create: Change = some => createLean(served.address, callers, some)
          const remove: Change = some => removeAtOnce(served, some)
          return await timeCreation(served, taps, practice, create, remove)
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
function createInWaves(settings: Settings, taps: readonly string[], practice: Practice): Promise<number> {
  return withoutService(settings, async world => {
    using script = await openRawScript(world.ovs.endpoint)
    const create: Change = async some => {
      for (let i = 0; i < some.length; i += callers) await script.addTaps(some.slice(i, i + callers))
    }
    return await timeCreation(world, taps, practice, create, some => removeAtOnce(world, some))
  })
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
