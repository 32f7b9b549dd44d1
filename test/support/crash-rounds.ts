import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { allTaps, assertOnlyUnfinished, type Belief, settledOn } from './crash-check.js'
import { foreignState, lendAgain, settleForeigners } from './crash-foreign.js'
import { plan } from './crash-model.js'
import { bridgeNameOf, devicesOf, nothing, type Owned, sharedBridge, withoutBridge } from './crash-owned.js'
import { type DaemonProcess, spawnDaemon } from './daemon-process.js'
import { lane } from './lane.js'
import { createVethPair } from './links.js'
import type { Namespace } from './namespace.js'
import { type Choices, choicesFrom } from './random.js'
import { stateOf } from './refusal.js'
import { type Connection, connectTo, RpcError } from './rpc.js'
import type { Testbed } from './testbed.js'
import { until } from './until.js'

const callerCount = 8
/** About as long as a call takes amid seven others: a fault is to strike at any instant of one. */
const callMs = lane === 'kernel' ? 1_000 : 150

/** A daemon that may be killed and started anew, and a client of the one that runs. */
export interface World {
  readonly bed: Testbed
  readonly daemon: DaemonProcess
  readonly connection: Connection
  /** Kills the daemon, and starts one on what it left. */
  replaceDaemon(): Promise<void>
  /** The same, and the first that is started is killed after `share` of the time that starts take. */
  replaceDaemonTwice(share: number): Promise<void>
}

interface Fault {
  readonly title: string
  /** Strikes, and returns when what it took down is there again. */
  strike(world: World, choices: Choices): Promise<void>
}

/** What befalls a script in the middle of its calls. */
const faults = {
  daemonKilled: {
    title: 'the daemon was killed',
    // What was left is put right at the end of a start, before it serves. A start takes long in a user-mode kernel.
    strike: (world, choices) =>
      choices.chance(lane === 'userspace' ? 0.3 : 0.1)
        ? world.replaceDaemonTwice(0.6 + choices.below(50) / 100)
        : world.replaceDaemon(),
  },
  vswitchdKilled: { title: 'ovs-vswitchd was killed', strike: ({ bed }) => bed.ovs.vswitchd.restart() },
  ovsdbKilled: { title: 'ovsdb-server was killed', strike: ({ bed }) => bed.ovs.ovsdbServer.restart() },
  bothStopped: {
    title: 'ovs-vswitchd and ovsdb-server were stopped for 10 s',
    strike: async ({ bed }) => {
      const both = [bed.ovs.vswitchd, bed.ovs.ovsdbServer]
      for (const process of both) process.stop()
      await delay(10_000)
      for (const process of both) process.continue()
    },
  },
} as const satisfies Record<string, Fault>

export type FaultName = keyof typeof faults
const faultNames: readonly FaultName[] = ['daemonKilled', 'vswitchdKilled', 'ovsdbKilled', 'bothStopped']

/** Random calls of every kind. */
export interface Script {
  /** At least: some more when a fault strikes at its end. */
  readonly calls: number
  /** How often each fault strikes amid them. */
  readonly strikes: Readonly<Record<FaultName, number>>
}

/** What came of the calls that one fault befell. */
export interface Survived {
  readonly times: number
  readonly calls: number
  readonly unacknowledged: number
  /** Of those not acknowledged, the ones that turned out to be done. */
  readonly done: number
}

/**
 * A script that eight callers share, and faults that strike at random instants of it. After each, every call that was
 * acknowledged holds, every other is wholly done or not at all, nothing of ours is left that nobody owns, and what is of
 * others is as it was; then the callers go on. After the last call all is destroyed, and the world as it was before. Answers
 * by the faults' titles.
 */
export async function surviveFaults(
  bed: Testbed,
  script: Script,
  seed: number,
): Promise<ReadonlyMap<string, Survived>> {
  const choices = choicesFrom(seed)
  const container = bed.createContainer()
  await settleForeigners(bed, container)
  let beliefs: readonly Belief[] = Array.from({ length: callerCount }, (_, number) => {
    const { adopted, trunk } = devicesOf({ number })
    for (const name of [adopted, trunk]) createVethPair({ name }, { name }, container)
    const caller = {
      number,
      choices: choicesFrom(seed * callerCount + number),
      netns: container.path,
      streams: new Set<Disposable>(),
    }
    return { caller, possible: [nothing], pending: '' }
  })
  await lendAll(bed, container, beliefs)
  const [before, foreign] = [await lastingState(bed), await foreignState(bed)]
  const world = await openWorld(bed)
  await world.connection.api.ensureBridge({ bridge: sharedBridge })
  const survived = new Map<string, Survived>()
  let called = 0
  for (const { fault, instant } of legsOf(script, choices)) {
    beliefs = await lendAll(bed, container, beliefs)
    const leg = await callUntil(world, fault, instant - called, beliefs, choices)
    called += leg.calls
    if (fault === faults.daemonKilled) await assertOnlyUnfinished(leg.beliefs, world.connection.api)
    beliefs = await settle(world, leg.beliefs, `the script of seed ${seed}, after ${called} calls, when ${fault.title}`)
    assert.deepEqual(await foreignState(bed), foreign, 'what is of others')
    survived.set(fault.title, summed(survived.get(fault.title), leg, beliefs))
  }
  beliefs = await strikeAmidEnd(world, beliefs, choices)
  beliefs = await settle(world, beliefs, `the end of seed ${seed}`)
  await destroyAll(world)
  await lendAll(
    bed,
    container,
    beliefs.map(({ caller }) => ({ caller, possible: [nothing], pending: '' })),
  )
  assert.deepEqual(await foreignState(bed), foreign, 'what is of others')
  assert.deepEqual(await lastingState(bed), before)
  return survived
}

/** Has each caller find again what it may take over or destroy. */
async function lendAll(bed: Testbed, container: Namespace, beliefs: readonly Belief[]): Promise<readonly Belief[]> {
  const holdings = beliefs.map(({ caller, possible: [owned = nothing] }) => ({ caller, owned }))
  await lendAgain(
    bed,
    container,
    holdings.map(({ caller, owned }) => ({ number: caller.number, owned })),
  )
  return holdings.map(({ caller, owned }) => {
    const lent = owned.taps[devicesOf(caller).lent] === undefined ? 'port' : owned.lent
    return { caller, possible: [{ ...owned, lent, hasStray: true }], pending: '' }
  })
}

/** The daemon is killed amid the call that destroys all bridges: each is there with all that it carries, or is not. */
async function strikeAmidEnd(world: World, beliefs: readonly Belief[], choices: Choices): Promise<readonly Belief[]> {
  const call = world.connection.api.destroyAllBridges().then(
    () => 'done',
    (error: unknown) => {
      if (!isOfCrash(error)) throw error
      return 'unknown'
    },
  )
  await delay(choices.below(100))
  await world.replaceDaemon()
  const outcome = await call
  return beliefs.map(({ caller, possible: [owned = nothing] }) => {
    const without = (held: Owned, ...names: readonly string[]) =>
      names.reduce((left, name) => withoutBridge(left, caller, name), held)
    const [own, shared] = [bridgeNameOf(caller), sharedBridge]
    const all = without(owned, own, shared)
    const some = [all, without(owned, own), without(owned, shared), owned]
    return { caller, possible: outcome === 'done' ? [all] : some, pending: 'destroyAllBridges' }
  })
}

/** The calls up to a fault. */
interface Leg {
  readonly fault: Fault
  /** How many calls of the script are begun before it strikes. */
  readonly instant: number
}

const end: Fault = { title: 'the script ended', strike: async () => {} }

function legsOf({ calls, strikes }: Script, choices: Choices): readonly Leg[] {
  const befalling = inAnyOrder(strikes, choices)
  const instants = befalling.map(() => choices.below(calls)).sort((a, b) => a - b)
  return [...befalling.map((fault, i) => ({ fault, instant: instants[i] ?? 0 })), { fault: end, instant: calls }]
}

function inAnyOrder(strikes: Script['strikes'], choices: Choices): readonly Fault[] {
  const left = faultNames.flatMap(name => Array.from({ length: strikes[name] }, () => faults[name]))
  return left.map((_, i) => {
    const j = i + choices.below(left.length - i)
    const [fault, first] = [left[j], left[i]]
    if (fault === undefined || first === undefined) throw new RangeError('no fault')
    left[j] = first
    return fault
  })
}

function summed(before: Survived | undefined, { calls, beliefs }: Called, settled: readonly Belief[]): Survived {
  const unacknowledged = beliefs.filter(({ pending }) => pending !== '').length
  const done = beliefs.filter(
    ({ possible }, i) => possible.length > 1 && possible[0] === settled[i]?.possible[0],
  ).length
  return {
    times: (before?.times ?? 0) + 1,
    calls: (before?.calls ?? 0) + calls,
    unacknowledged: (before?.unacknowledged ?? 0) + unacknowledged,
    done: (before?.done ?? 0) + done,
  }
}

async function openWorld(bed: Testbed): Promise<World> {
  const stateDir = mkdtempSync(join(tmpdir(), 'crash-'))
  const captures = join(stateDir, 'captures')
  bed.use({ [Symbol.dispose]: () => rmSync(stateDir, { recursive: true }) })
  const options = { stateDir, flags: ['--default-bridge', sharedBridge, '--capture-dir', captures] }
  let startMs = 0
  const start = async () => {
    const began = performance.now()
    const daemon = bed.use(await spawnDaemon(bed.ovs, options))
    startMs = performance.now() - began
    return { daemon, connection: bed.use(connectTo(daemon.address)) }
  }
  /** Starts a daemon that has so long to live, whether it comes to serve or not. */
  const startInVain = async (ms: number) => {
    const through = ['timeout', '--signal=KILL', String(ms / 1_000)]
    const served = await spawnDaemon(bed.ovs, { ...options, through }).catch(killedUnheard)
    await served?.ended
  }
  let current = await start()
  return {
    bed,
    get daemon() {
      return current.daemon
    },
    get connection() {
      return current.connection
    },
    replaceDaemon: async () => {
      await current.daemon.end('SIGKILL')
      current = await start()
    },
    replaceDaemonTwice: async share => {
      await current.daemon.end('SIGKILL')
      await startInVain(share * startMs)
      current = await start()
    },
  }
}

/** Throws what is not the end of a daemon that was killed before it served. */
function killedUnheard(error: unknown): undefined {
  if (error instanceof Error && /^the daemon ended with (137|SIGKILL) before/.test(error.message)) return undefined
  throw error
}

interface Called {
  readonly calls: number
  readonly beliefs: readonly Belief[]
}

/** Has all call until the fault has struck, at some instant once `enough` calls are begun; and what each believes then. */
async function callUntil(
  world: World,
  fault: Fault,
  enough: number,
  beliefs: readonly Belief[],
  choices: Choices,
): Promise<Called> {
  const progress = { calls: 0, isStruck: false, isOver: false }
  const { api } = world.connection
  const work = async ({ caller, possible }: Belief): Promise<Belief> => {
    let [owned = nothing] = possible
    while (!progress.isOver) {
      progress.calls++
      const next = plan(caller, owned)
      try {
        await next.call(api)
      } catch (error) {
        if (!isOfCrash(error) || !progress.isStruck) {
          progress.isOver = true
          const told = world.daemon.stdout() + world.daemon.stderr()
          const what = `caller ${caller.number}: ${next.kind} of ${JSON.stringify(owned)}, when it had said\n${told}`
          throw new Error(what, { cause: error })
        }
        const possible = [next.after, owned, ...(next.halfway === undefined ? [] : [next.halfway])]
        return { caller, possible, pending: `${next.kind} (${error.reason || error.code}: ${error.message})` }
      }
      owned = next.after
    }
    return { caller, possible: [owned], pending: '' }
  }
  const callers = Promise.all(beliefs.map(work))
  const strike = async () => {
    const isReady = () => progress.calls >= enough || progress.isOver
    await until('callers go on', isReady, { deadlineMs: 120_000, everyMs: 1 })
    if (fault !== end) await delay(choices.below(callMs))
    if (progress.isOver) return
    progress.isStruck = true
    await fault.strike(world, choices)
    progress.isOver = true
  }
  const [held] = await Promise.all([callers, strike()])
  return { calls: progress.calls, beliefs: held }
}

/** An error that tells of nothing but a service, or what it rests on, that is gone or does not answer. */
function isOfCrash(error: unknown): error is RpcError {
  if (!(error instanceof RpcError)) return false
  return error.reason === 'OUTCOME_UNKNOWN' || error.code === 'UNAVAILABLE'
}

/** What each caller has, once all agree, and still do after what was undone meanwhile. */
async function settle(world: World, beliefs: readonly Belief[], what: string): Promise<readonly Belief[]> {
  const { api } = world.connection
  for (const { streams } of beliefs.map(({ caller }) => caller)) {
    for (const stream of streams) stream[Symbol.dispose]()
    streams.clear()
  }
  const look = async () => {
    // Those of a daemon that lives go on, rightly; of one that was killed nothing may be left that this would stop.
    await api.stopAllCaptures()
    return await settledOn(beliefs, api, world.bed.ovs)
  }
  const agreed = () => until(`all is as it was acknowledged in ${what}`, look, { deadlineMs: 40_000, everyMs: 100 })
  for (let former = await agreed(); ; ) {
    // Reaping takes its turn after all that was to be undone.
    await api.reapTaps()
    const settled = await agreed()
    if (settled.every((owned, i) => owned === former[i])) {
      return beliefs.map(({ caller }, i) => ({ caller, possible: [settled[i] ?? nothing], pending: '' }))
    }
    former = settled
  }
}

async function destroyAll({ connection: { api } }: World): Promise<void> {
  await api.stopAllCaptures()
  await api.destroyAllBridges()
  for (const { name: tap } of await allTaps(api)) await api.destroyTap({ tap })
  await api.reapTaps()
}

/** All but the number of the next capture, which is never given twice, and the indexes of devices that are lent anew. */
async function lastingState(bed: Testbed) {
  const { database, links } = await stateOf(bed)
  const { Open_vSwitch: root = [], ...tables } = database
  const named = links.map(link => link.replace(/^\d+ ([fx]\d+)$/, '$1')).sort()
  return { tables, root: root.map(withoutCaptureId), links: named }
}

function withoutCaptureId(row: unknown): unknown {
  return JSON.parse(JSON.stringify(row).replace(/\["ovs-bridged:[^"]*:next-capture-id","\d+"\],?/, ''))
}
