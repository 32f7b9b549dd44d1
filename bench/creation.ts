import { CreateTapRequest } from '../src/gen/ovs/bridge/v1/tap.js'
import { byCallers, type Settings, tapNames, timed } from './bench.js'
import { openLeanCaller } from './lean-caller.js'
import { expectTaps, requestOf, type Served, type World } from './world.js'

/** A way to make taps, or to remove them. */
export type Change = (taps: readonly string[]) => Promise<void>

/** What is made and removed before a measurement, in the way that is measured, and how often. */
export interface Practice {
  readonly taps: readonly string[]
  readonly times: number
}

/** So many taps, twenty times: by then V8 has compiled most of what runs for each tap, though not all. */
export function practiceOf({ smoke }: Settings, taps: number): Practice {
  return { taps: tapNames(taps, 200_000), times: smoke ? 1 : 20 }
}

/** How many taps are made. */
export function countOf({ taps, times }: Practice): number {
  return taps.length * times
}

/**
 * Milliseconds in which the taps are made, after the practice. What V8 has compiled for one client it throws away when the objects of
 * the next look different, and compiles again, on the processors that the measurement needs.
 */
export async function timeCreation(
  world: World,
  taps: readonly string[],
  practice: Practice,
  create: Change,
  remove: Change,
): Promise<number> {
  for (let i = 0; i < practice.times; i++) {
    await create(practice.taps)
    await remove(practice.taps)
  }
  await world.ovs.configure()
  const ms = await timed(() => create(taps))
  await expectTaps(world, taps.length)
  return ms
}

/** CreateTap of the service at that address, by callers that cost nothing, all on one connection. */
export async function createLean(address: string, callers: number, taps: readonly string[]): Promise<void> {
  using caller = await openLeanCaller(address, '/ovs.bridge.v1.BridgeService/CreateTap')
  const requests = taps.map(tap => CreateTapRequest.encode(requestOf(tap)).finish())
  await byCallers(callers, requests, caller.call)
}

/** DestroyTap, by many callers, and then ReapTaps. */
export async function destroyAll({ api }: Served, taps: readonly string[]): Promise<void> {
  await byCallers(64, taps, tap => api.destroyTap({ tap }))
  await api.reapTaps()
}
