import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { allTaps, type Belief, settledOn } from './crash-check.js'
import { devicesOf, nothing, type Owned, plan, sharedBridge } from './crash-model.js'
import { type DaemonProcess, spawnDaemon } from './daemon-process.js'
import type { Dump } from './dump.js'
import { lane } from './lane.js'
import { createVethPair } from './links.js'
import { addForeignBridge } from './ovs.js'
import { type Choices, choicesFrom } from './random.js'
import { stateOf } from './refusal.js'
import { type Connection, connectTo, RpcError } from './rpc.js'
import type { Testbed } from './testbed.js'
import { until } from './until.js'

const callerCount = 8
/** The user-mode kernel is some ten times slower. */
const callsPerRound = lane === 'kernel' ? 24 : 300

/** A daemon that may be killed and started anew, and a client of the one that runs. */
export interface World {
  readonly bed: Testbed
  readonly daemon: DaemonProcess
  readonly connection: Connection
  /** Kills the daemon, and starts one on what it left. */
  replaceDaemon(): Promise<void>
}

interface Fault {
  readonly title: string
  /** Strikes, and returns when what it took down is there again. */
  strike(world: World): Promise<void>
}

/** What befalls a round in the middle of its calls. */
const faults = {
  daemonKilled: { title: 'the daemon was killed', strike: world => world.replaceDaemon() },
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

/** What came of the rounds of one fault. */
export interface Survived {
  readonly rounds: number
  readonly calls: number
  readonly unacknowledged: number
  /** Of those not acknowledged, the ones that turned out to be done. */
  readonly done: number
}

/**
 * Rounds of random calls by eight callers, each of which a fault strikes at a random instant, each fault as often as
 * `strikes` says. After each round, every call that was acknowledged holds, every other is wholly done or not at all, nothing
 * of ours is left that nobody owns, and what is of others is as it was. After the last all is destroyed, and the world as it
 * was before. Answers by the faults' titles.
 */
export async function surviveFaults(
  bed: Testbed,
  strikes: Readonly<Record<FaultName, number>>,
  seed: number,
): Promise<ReadonlyMap<string, Survived>> {
  const choices = choicesFrom(seed)
  await addForeignBridge(bed.ovs, 'there', [{ name: 'theirs', type: 'internal', tag: 5 }])
  const container = bed.createContainer()
  let beliefs: readonly Belief[] = Array.from({ length: callerCount }, (_, number) => {
    for (const name of Object.values(devicesOf({ number }))) createVethPair({ name }, { name }, container)
    const caller = { number, choices: choicesFrom(seed * callerCount + number), netns: container.path }
    return { caller, possible: [nothing], pending: '' }
  })
  const before = await lastingState(bed)
  const world = await openWorld(bed)
  await world.connection.api.ensureBridge({ bridge: sharedBridge })
  const foreign = foreignRows(await bed.ovs.dump())
  const survived = new Map<string, Survived>()
  for (const [round, fault] of inAnyOrder(strikes, choices).entries()) {
    const struck = await strikeAmid(world, fault, beliefs, choices)
    const settled = await settle(world, struck.beliefs, `round ${round} of seed ${seed}, in which ${fault.title}`)
    assert.deepEqual(foreignRows(await bed.ovs.dump()), foreign, 'what is of others')
    survived.set(fault.title, summed(survived.get(fault.title), struck, settled))
    beliefs = beliefs.map(({ caller }, i) => ({ caller, possible: [settled[i] ?? nothing], pending: '' }))
  }
  await destroyAll(world)
  assert.deepEqual(await lastingState(bed), before)
  return survived
}

function inAnyOrder(strikes: Readonly<Record<FaultName, number>>, choices: Choices): readonly Fault[] {
  const left = faultNames.flatMap(name => Array.from({ length: strikes[name] }, () => faults[name]))
  return left.map((_, i) => {
    const j = i + choices.below(left.length - i)
    const [fault, first] = [left[j], left[i]]
    if (fault === undefined || first === undefined) throw new RangeError('no fault')
    left[j] = first
    return fault
  })
}

function summed(before: Survived | undefined, { calls, beliefs }: Struck, settled: readonly Owned[]): Survived {
  const unacknowledged = beliefs.filter(({ pending }) => pending !== '').length
  const done = beliefs.filter(({ possible }, i) => possible.length > 1 && possible[0] === settled[i]).length
  return {
    rounds: (before?.rounds ?? 0) + 1,
    calls: (before?.calls ?? 0) + calls,
    unacknowledged: (before?.unacknowledged ?? 0) + unacknowledged,
    done: (before?.done ?? 0) + done,
  }
}

async function openWorld(bed: Testbed): Promise<World> {
  const stateDir = mkdtempSync(join(tmpdir(), 'crash-'))
  bed.use({ [Symbol.dispose]: () => rmSync(stateDir, { recursive: true }) })
  const start = async () => {
    const daemon = bed.use(await spawnDaemon(bed.ovs, { stateDir, flags: ['--default-bridge', sharedBridge] }))
    return { daemon, connection: bed.use(connectTo(daemon.address)) }
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
  }
}

interface Struck {
  readonly calls: number
  readonly beliefs: readonly Belief[]
}

/** Calls until the fault has struck, and what each caller believes then. */
async function strikeAmid(world: World, fault: Fault, beliefs: readonly Belief[], choices: Choices): Promise<Struck> {
  const progress = { calls: 0, isStruck: false, isOver: false }
  const { api } = world.connection
  const work = async ({ caller, possible }: Belief): Promise<Belief> => {
    let [owned = nothing] = possible
    while (!progress.isOver && progress.calls < callsPerRound) {
      progress.calls++
      const next = plan(caller, owned)
      try {
        await next.call(api)
      } catch (error) {
        if (!(error instanceof RpcError) || !progress.isStruck) {
          progress.isOver = true
          const told = world.daemon.stdout() + world.daemon.stderr()
          const what = `caller ${caller.number}: ${next.kind} of ${JSON.stringify(owned)}, when it had said\n${told}`
          throw new Error(what, { cause: error })
        }
        return { caller, possible: [next.after, owned], pending: `${next.kind} (${error.reason || error.code})` }
      }
      owned = next.after
    }
    return { caller, possible: [owned], pending: '' }
  }
  const callers = Promise.all(beliefs.map(work))
  const strike = async () => {
    const enough = choices.below(callsPerRound - callerCount)
    const isReady = () => progress.calls >= enough || progress.isOver
    await until('callers go on', isReady, { deadlineMs: 60_000, everyMs: 1 })
    if (progress.isOver) return
    await delay(choices.below(20))
    progress.isStruck = true
    await fault.strike(world)
    progress.isOver = true
  }
  const [held] = await Promise.all([callers, strike()])
  return { calls: progress.calls, beliefs: held }
}

/** What each caller has, once all agree, and still do after what was undone meanwhile. */
async function settle(world: World, beliefs: readonly Belief[], what: string): Promise<readonly Owned[]> {
  const { api } = world.connection
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
    if (settled.every((owned, i) => owned === former[i])) return settled
    former = settled
  }
}

async function destroyAll({ connection: { api } }: World): Promise<void> {
  await api.stopAllCaptures()
  await api.destroyAllBridges()
  for (const { name: tap } of await allTaps(api)) await api.destroyTap({ tap })
  await api.reapTaps()
}

/** All but the number of the next capture, which is never given twice. */
async function lastingState(bed: Testbed) {
  const { database, links } = await stateOf(bed)
  const { Open_vSwitch: root = [], ...tables } = database
  return { tables, root: root.map(withoutCaptureId), links }
}

function withoutCaptureId(row: unknown): unknown {
  return JSON.parse(JSON.stringify(row).replace(/\["ovs-bridged:[^"]*:next-capture-id","\d+"\],?/, ''))
}

/** The bridge and the ports that others have, and what refers to them. */
function foreignRows(dump: Dump): readonly unknown[] {
  return Object.values(dump)
    .flat()
    .filter(row => /"name":"(there|theirs)"/.test(JSON.stringify(row)))
}
