import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { isConfined } from './confined.js'

/** The datapath under test: vswitchd's own (`netdev`) or the kernel's (`system`). */
export type Lane = 'userspace' | 'kernel'

/** The lane this process runs in. Throws where none was chosen: an integration test outside a lane proves nothing. */
export const lane: Lane = parseLane(process.env['OVS_BRIDGED_LANE'])

function parseLane(value: string | undefined): Lane {
  if (value === 'userspace' || value === 'kernel') return value
  throw new Error(`OVS_BRIDGED_LANE must be userspace or kernel, not ${value ?? 'unset'}`)
}

/** Nothing may hold a lane for longer than this, whatever it waits for. The user-mode kernel is some ten times slower. */
const defaultTimeoutMs = lane === 'kernel' ? 300_000 : 60_000

interface LaneTest {
  readonly name: string
  readonly timeout: number
  readonly isLong: boolean
  readonly run: (context: TestContext) => Promise<void>
}

const registered: LaneTest[] = []

/**
 * Registers an integration test.
 * @param options.only the one lane it is for; without it the test runs in both
 * @param options.looksInside the test reads state of the daemon in its own process, where a confined one is not
 * @param options.isLong it takes ten seconds or so: begun before the others, nobody has to wait for it at the end
 * @param options.timeoutMs the test fails when it takes longer; 60 s, or 300 s in the kernel lane, if not given
 */
export function laneTest(
  name: string,
  options: {
    readonly only?: Lane
    readonly looksInside?: boolean
    readonly isLong?: boolean
    readonly timeoutMs?: number
  },
  run: (context: TestContext) => Promise<void>,
): void {
  if (options.only !== undefined && options.only !== lane) return
  if (options.looksInside === true && isConfined) return
  const { isLong = false, timeoutMs = defaultTimeoutMs } = options
  registered.push({ name, timeout: timeoutMs, isLong, run })
}

/** The time that the registered test of this name has. */
export function timeoutMsOf(name: string): number {
  return registered.find(test => test.name === name)?.timeout ?? defaultTimeoutMs
}

/**
 * Runs the registered tests, one by one. Where processes share a lane, each takes the next test that none has taken:
 * OVS_BRIDGED_TEST_CLAIMS is their common folder, in which a folder named after its place stands for a test taken.
 */
export async function runLaneTests(): Promise<void> {
  const claims = process.env['OVS_BRIDGED_TEST_CLAIMS']
  const order = [...registered.filter(({ isLong }) => isLong), ...registered.filter(({ isLong }) => !isLong)]
  for (const [place, { name, timeout, run }] of order.entries()) {
    if (claims === undefined || claim(join(claims, String(place)))) await test(name, { timeout }, run)
  }
}

/** mkdir(2) succeeds for one process alone, also where one of them sees the folder through hostfs. */
function claim(path: string): boolean {
  try {
    mkdirSync(path)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}
