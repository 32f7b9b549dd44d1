import { GetTapRequest } from '../../src/gen/ovs/bridge/v1/tap.js'
import { type Bench, byCallers, inTurn, type Settings, tapNames, timed } from '../bench.js'
import { addOneByOne, removeAtOnce } from '../by-hand.js'
import { countOf, createLean, destroyAll, type Practice, practiceOf, timeCreation } from '../creation.js'
import { openLeanCaller } from '../lean-caller.js'
import { openRawScript, startService, withLeastService } from '../raw-script.js'
import { expectTaps, withoutService, withService } from '../world.js'

const practiceTaps = 50

export const createSeq: Bench = {
  name: 'create-seq',
  about: 'CreateTap by one caller, each waited for',
  async run(settings) {
    const count = settings.smoke ? 5 : 200
    const taps = tapNames(count)
    const practice = practiceOf(settings, practiceTaps)
    const samples = await inTurn(settings.rounds, {
      service: () =>
        withService(settings, served =>
          timeCreation(
            served,
            taps,
            practice,
            some => createLean(served.daemon.address, 1, some),
            some => destroyAll(served, some),
          ),
        ),
      loop: () =>
        withoutService(settings, async world => {
          const ms = await timed(() => addOneByOne(world, taps))
          await expectTaps(world, count)
          return ms
        }),
      script: () => createByScript(settings, taps, practice),
      asking: () => createByScriptThatAsks(settings, taps, practice),
      least: () =>
        withLeastService(settings, { callers: 1, calls: countOf(practice) + count }, served =>
          timeCreation(
            served,
            taps,
            practice,
            some => createLean(served.address, 1, some),
            some => removeAtOnce(served, some),
          ),
        ),
    })
    const what = `create-seq: ${count} CreateTap, 1 caller`
    const common = { unit: 'ms', ours: samples.service } as const
    return [
      {
        ...common,
        name: `${what} / loop of ip and ovs-vsctl`,
        theirs: samples.loop,
        aim: { kind: 'times-faster', atLeast: 2.5 },
      },
      {
        ...common,
        name: `${what} / raw JSON-RPC script`,
        theirs: samples.script,
        aim: { kind: 'times-as-long', atMost: 1.2 },
      },
      { ...common, name: `${what} / raw JSON-RPC script, an empty RPC after each tap`, theirs: samples.asking },
      {
        name: `create-seq: ${count} taps by raw JSON-RPC script / loop of ip and ovs-vsctl`,
        unit: 'ms',
        ours: samples.script,
        theirs: samples.loop,
      },
      {
        name: `create-seq: ${count} taps by raw JSON-RPC script, an empty RPC after each / the same without`,
        unit: 'ms',
        ours: samples.asking,
        theirs: samples.script,
      },
      {
        name: `create-seq: ${count} taps by raw JSON-RPC script, an empty RPC after each / loop of ip and ovs-vsctl`,
        unit: 'ms',
        ours: samples.asking,
        theirs: samples.loop,
      },
      { ...common, name: `${what} / the least service`, theirs: samples.least },
      {
        name: `${what} of the least service / loop of ip and ovs-vsctl`,
        unit: 'ms',
        ours: samples.least,
        theirs: samples.loop,
      },
      {
        name: `${what} of the least service / raw JSON-RPC script`,
        unit: 'ms',
        ours: samples.least,
        theirs: samples.script,
      },
    ]
  },
}

function createByScript(settings: Settings, taps: readonly string[], practice: Practice): Promise<number> {
  return withoutService(settings, async world => {
    using script = await openRawScript(world.ovs.endpoint)
    const create = (some: readonly string[]) => byCallers(1, some, script.addTap)
    return await timeCreation(world, taps, practice, create, some => removeAtOnce(world, some))
  })
}

/** What any service has between two taps of one caller, which the script has not: an RPC's way back, and the next one's there. */
function createByScriptThatAsks(settings: Settings, taps: readonly string[], practice: Practice): Promise<number> {
  return withoutService(settings, async world => {
    await using service = await startService('empty-service.js', address => [address])
    using script = await openRawScript(world.ovs.endpoint)
    using caller = await openLeanCaller(service.address, '/ovs.bridge.v1.BridgeService/GetTap')
    const create = (some: readonly string[]) =>
      byCallers(1, some, async tap => {
        await script.addTap(tap)
        await caller.call(GetTapRequest.encode({ tap }).finish())
      })
    return await timeCreation(world, taps, practice, create, some => removeAtOnce(world, some))
  })
}
