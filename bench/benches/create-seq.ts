import { type Bench, byCallers, inTurn, type Settings, tapNames, timed } from '../bench.js'
import { addOneByOne } from '../by-hand.js'
import { openRawScript, startService, warmUp, withLeastService } from '../raw-script.js'
import { expectTaps, type World, withoutService, withService } from '../world.js'

export const createSeq: Bench = {
  name: 'create-seq',
  about: 'CreateTap by one caller, each waited for',
  async run(settings) {
    const count = settings.smoke ? 5 : 200
    const taps = tapNames(count)
    const samples = await inTurn(settings.rounds, {
      service: () => createByService(settings, taps),
      loop: () =>
        withoutService(settings, async world => {
          const ms = await timed(() => addOneByOne(world, taps))
          await expectTaps(world, count)
          return ms
        }),
      script: () => createByScript(settings, taps),
      asking: () => createByScriptThatAsks(settings, taps),
      least: () =>
        withLeastService(settings, { callers: 1, calls: count }, served => timeEach(served, taps, served.add)),
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

function createByService(settings: Settings, taps: readonly string[]): Promise<number> {
  return withService(settings, served => timeEach(served, taps, tap => served.api.createTap({ tap, vlan: 10 })))
}

function createByScript(settings: Settings, taps: readonly string[]): Promise<number> {
  return withoutService(settings, async world => {
    using script = await openRawScript(world.ovs.endpoint)
    await warmUp(settings, world, script.addTap)
    return await timeEach(world, taps, script.addTap)
  })
}

/** What any service has between two taps of one caller, which the script has not: an RPC's way back, and the next one's there. */
function createByScriptThatAsks(settings: Settings, taps: readonly string[]): Promise<number> {
  return withoutService(settings, async world => {
    await using service = await startService('empty-service.js', address => [address])
    using script = await openRawScript(world.ovs.endpoint)
    const addAndAsk = async (tap: string) => {
      await script.addTap(tap)
      await service.api.getTap({ tap })
    }
    await warmUp(settings, world, addAndAsk)
    return await timeEach(world, taps, addAndAsk)
  })
}

async function timeEach(
  world: World,
  taps: readonly string[],
  add: (tap: string) => Promise<unknown>,
): Promise<number> {
  const ms = await timed(() => byCallers(1, taps, add))
  await expectTaps(world, taps.length)
  return ms
}
