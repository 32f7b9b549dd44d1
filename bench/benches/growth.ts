import { type Bench, type Figure, inTurn, quantile, type Settings, tapNames, timed } from '../bench.js'
import { addAtOnce, addOneByOne } from '../by-hand.js'
import { openRawScript, warmUp, withLeastService } from '../raw-script.js'
import { expectTaps, fill, type World, withoutService, withService } from '../world.js'

export const growth: Bench = {
  name: 'growth',
  about: 'CreateTap by one caller as the ports become more',
  async run(settings) {
    const counts = settings.smoke ? [0, 20] : settings.quick ? [0, 500] : [0, 500, 1_000, 2_000]
    const samples = await inTurn(settings.rounds, {
      service: () => byService(settings, counts),
      ovsVsctl: () => byOvsVsctl(settings, counts),
      script: () => byScript(settings, counts),
      least: () => byLeast(settings, counts),
    })
    return figuresOf(counts, samples)
  },
}

/** Milliseconds of one tap, the median, at each number of ports. */
type Curve = readonly number[]

interface Samples {
  readonly service: readonly Curve[]
  readonly ovsVsctl: readonly Curve[]
  readonly script: readonly Curve[]
  readonly least: readonly Curve[]
}

/** What the service adds is its time less that of the least service, which does the same with Open vSwitch. */
function figuresOf(counts: readonly number[], { service, ovsVsctl, script, least }: Samples): Figure[] {
  const at = (curves: readonly Curve[], i: number) => curves.map(curve => curve[i] ?? Number.NaN)
  const own = service.map((curve, round) => curve.map((ms, i) => ms - (least[round]?.[i] ?? Number.NaN)))
  const aim = { kind: 'times-as-long', atMost: 1.5 } as const
  return counts.flatMap((count, i): Figure[] => {
    const what = `growth: CreateTap with ${count} ports, p50`
    const ours = at(service, i)
    const added = `growth: what the service adds with ${count} ports / with ${counts[0]}`
    return [
      { name: `${what} / ip and ovs-vsctl`, unit: 'ms', ours, theirs: at(ovsVsctl, i) },
      { name: `${what} / raw JSON-RPC script`, unit: 'ms', ours, theirs: at(script, i) },
      { name: `${what} / the least service`, unit: 'ms', ours, theirs: at(least, i) },
      ...(i === 0 ? [] : [{ name: added, unit: 'ms', ours: at(own, i), theirs: at(own, 0), aim } as const]),
    ]
  })
}

/** Taps of one sample. */
function sizeOf({ smoke }: Settings): number {
  return smoke ? 3 : 40
}

interface Way {
  add(tap: string): Promise<unknown>
  /** Makes many: how long it takes is not measured. */
  fill(taps: readonly string[]): Promise<unknown>
}

/** Medians at each number of ports, on a world that has none yet. */
async function curve(settings: Settings, counts: readonly number[], world: World, way: Way): Promise<Curve> {
  const medians: number[] = []
  const size = sizeOf(settings)
  let made = 0
  for (const count of counts) {
    const missing = tapNames(Math.max(0, count - made), made)
    if (missing.length > 0) await way.fill(missing)
    made += missing.length
    const times: number[] = []
    for (const tap of tapNames(size, made)) times.push(await timed(() => way.add(tap)))
    made += size
    medians.push(quantile(times, 0.5))
  }
  await expectTaps(world, made)
  return medians
}

function byService(settings: Settings, counts: readonly number[]): Promise<Curve> {
  return withService(settings, served =>
    curve(settings, counts, served, {
      add: tap => served.api.createTap({ tap, vlan: 10 }),
      fill: taps => fill(served, taps),
    }),
  )
}

function byOvsVsctl(settings: Settings, counts: readonly number[]): Promise<Curve> {
  return withoutService(settings, world =>
    curve(settings, counts, world, {
      add: tap => addOneByOne(world, [tap]),
      fill: taps => addAtOnce(world, taps),
    }),
  )
}

function byScript(settings: Settings, counts: readonly number[]): Promise<Curve> {
  return withoutService(settings, async world => {
    using script = await openRawScript(world.ovs.endpoint)
    await warmUp(settings, world, script.addTap)
    return await curve(settings, counts, world, {
      add: tap => script.addTap(tap),
      fill: taps => fillByScript(world, taps),
    })
  })
}

function byLeast(settings: Settings, counts: readonly number[]): Promise<Curve> {
  const calls = counts.length * sizeOf(settings)
  return withLeastService(settings, { callers: 1, calls }, (world, add) =>
    curve(settings, counts, world, { add, fill: taps => fillByScript(world, taps) }),
  )
}

/** The same devices and rows as the service's, so that ovs-vswitchd walks over the same ports. */
async function fillByScript(world: World, taps: readonly string[]): Promise<void> {
  using script = await openRawScript(world.ovs.endpoint)
  for (let i = 0; i < taps.length; i += 250) await script.addTaps(taps.slice(i, i + 250))
}
