import { type Bench, byCallers, inTurn, type Settings, tapNames, timed } from '../bench.js'
import { addOneByOne } from '../by-hand.js'
import { openRawScript, type Script, warmUp, withScriptAndCalls } from '../raw-script.js'
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
      scriptAndCalls: () => withScriptAndCalls(settings, (world, script) => timeScript(world, script, taps)),
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
      {
        ...common,
        name: `${what} / raw JSON-RPC script, a GetTap after each`,
        theirs: samples.scriptAndCalls,
      },
    ]
  },
}

function createByService(settings: Settings, taps: readonly string[]): Promise<number> {
  return withService(settings, async served => {
    const ms = await timed(() => byCallers(1, taps, tap => served.api.createTap({ tap, vlan: 10 })))
    await expectTaps(served, taps.length)
    return ms
  })
}

function createByScript(settings: Settings, taps: readonly string[]): Promise<number> {
  return withoutService(settings, async world => {
    using script = await openRawScript(world)
    await warmUp(settings, world, script)
    return await timeScript(world, script, taps)
  })
}

async function timeScript(world: World, script: Script, taps: readonly string[]): Promise<number> {
  const ms = await timed(() => byCallers(1, taps, tap => script.addTap(tap)))
  await expectTaps(world, taps.length)
  return ms
}
