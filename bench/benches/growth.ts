import { type Bench, type Figure, inTurn, quantile, type Settings, tapNames, timed } from '../bench.js'
import { addAtOnce, addOneByOne } from '../by-hand.js'
import { openRawDatabase } from '../raw-database.js'
import { openRawScript, warmUp, withLeastService } from '../raw-script.js'
import { untilAtRest } from '../usage.js'
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
  readonly ovsVsctl: readonly (readonly Curve[])[]
  // Of all, and of that less ovs-vswitchd's part.
  readonly service: readonly (readonly Curve[])[]
  readonly script: readonly (readonly Curve[])[]
  readonly least: readonly (readonly Curve[])[]
}

function figuresOf(counts: readonly number[], { service, ovsVsctl, script, least }: Samples): Figure[] {
  const at = (rounds: readonly (readonly Curve[])[], i: number, measure = 0) =>
    rounds.map(curves => curves[measure]?.[i] ?? Number.NaN)
  const aim = { kind: 'times-as-long', atMost: 1.5 } as const
  const grown = (side: string, rounds: readonly (readonly Curve[])[], i: number) => ({
    name: `growth: ${side} less ovs-vswitchd's part with ${counts[i]} ports, p50 / with ${counts[0]}`,
    unit: 'ms' as const,
    ours: at(rounds, i, 1),
    theirs: at(rounds, 0, 1),
  })
  return counts.flatMap((count, i): Figure[] => {
    const what = `growth: CreateTap with ${count} ports, p50`
    const ours = at(service, i)
    return [
      { name: `${what} / ip and ovs-vsctl`, unit: 'ms', ours, theirs: at(ovsVsctl, i) },
      { name: `${what} / raw JSON-RPC script`, unit: 'ms', ours, theirs: at(script, i) },
      { name: `${what} / the least service`, unit: 'ms', ours, theirs: at(least, i) },
      ...(i === 0
        ? []
        : [
            { ...grown('CreateTap', service, i), aim },
            grown('a tap by raw JSON-RPC script', script, i),
            grown('CreateTap of the least service', least, i),
          ]),
    ]
  })
}

/** Taps of one sample. */
function sizeOf({ smoke }: Settings): number {
  return smoke ? 3 : 40
}

interface Way {
  /** Milliseconds that it took, by each measure. */
  add(tap: string): Promise<readonly number[]>
  /** Makes many: how long it takes is not measured. */
  fill(taps: readonly string[]): Promise<unknown>
}

/** Medians by each measure at each number of ports, on a world that has none yet. */
async function curvesOf(settings: Settings, counts: readonly number[], world: World, way: Way): Promise<Curve[]> {
  const curves: number[][] = []
  const size = sizeOf(settings)
  let made = 0
  for (const count of counts) {
    const missing = tapNames(Math.max(0, count - made), made)
    if (missing.length > 0) await way.fill(missing)
    made += missing.length
    const times: (readonly number[])[] = []
    for (const tap of tapNames(size, made)) {
      // What it still does about the tap before is no part of this one, and takes a processor from those that are measured.
      await untilAtRest(world.ovs.vswitchd.pid, world.signal)
      times.push(await way.add(tap))
    }
    made += size
    for (const measure of times[0]?.keys() ?? []) {
      const ofMeasure = times.map(ms => ms[measure] ?? Number.NaN)
      ;(curves[measure] ??= []).push(quantile(ofMeasure, 0.5))
    }
  }
  await expectTaps(world, made)
  return curves
}

function byService(settings: Settings, counts: readonly number[]): Promise<Curve[]> {
  return withService(settings, async served => {
    using parts = await watchParts(served)
    return await curvesOf(settings, counts, served, {
      add: tap => parts.timed(() => served.api.createTap({ tap, vlan: 10 })),
      fill: taps => fill(served, taps),
    })
  })
}

interface Parts extends Disposable {
  /** Milliseconds that `work` takes, and these less those in which ovs-vswitchd has something to apply. */
  timed(work: () => Promise<unknown>): Promise<readonly [allMs: number, ownMs: number]>
}

async function watchParts({ ovs }: World): Promise<Parts> {
  let applyingMs = 0
  let askedAt: number | undefined
  let onApplied = () => {}
  const database = await openRawDatabase(ovs.endpoint, ['next_cfg', 'cur_cfg'], ({ next_cfg = 0, cur_cfg = 0 }) => {
    if (next_cfg > cur_cfg) askedAt ??= performance.now()
    else if (askedAt !== undefined) {
      applyingMs += performance.now() - askedAt
      askedAt = undefined
      onApplied()
    }
  })
  return {
    timed: async work => {
      const before = applyingMs
      const ms = await timed(work)
      // The work may have heard of it on its own connection earlier.
      if (askedAt !== undefined) await new Promise<void>(resolve => (onApplied = resolve))
      return [ms, ms - (applyingMs - before)]
    },
    [Symbol.dispose]: () => database[Symbol.dispose](),
  }
}

function byOvsVsctl(settings: Settings, counts: readonly number[]): Promise<Curve[]> {
  return withoutService(settings, world =>
    curvesOf(settings, counts, world, {
      add: async tap => [await timed(() => addOneByOne(world, [tap]))],
      fill: taps => addAtOnce(world, taps),
    }),
  )
}

function byScript(settings: Settings, counts: readonly number[]): Promise<Curve[]> {
  return withoutService(settings, async world => {
    using script = await openRawScript(world.ovs.endpoint)
    await warmUp(settings, world, script.addTap)
    using parts = await watchParts(world)
    return await curvesOf(settings, counts, world, {
      add: tap => parts.timed(() => script.addTap(tap)),
      fill: taps => fillByScript(world, taps),
    })
  })
}

function byLeast(settings: Settings, counts: readonly number[]): Promise<Curve[]> {
  const calls = counts.length * sizeOf(settings)
  return withLeastService(settings, { callers: 1, calls }, async served => {
    using parts = await watchParts(served)
    return await curvesOf(settings, counts, served, {
      add: tap => parts.timed(() => served.add(tap)),
      fill: taps => fillByScript(served, taps),
    })
  })
}

/** The same devices and rows as the service's, so that ovs-vswitchd walks over the same ports. */
async function fillByScript(world: World, taps: readonly string[]): Promise<void> {
  using script = await openRawScript(world.ovs.endpoint)
  for (let i = 0; i < taps.length; i += 250) await script.addTaps(taps.slice(i, i + 250))
}
