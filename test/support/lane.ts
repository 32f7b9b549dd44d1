import { type TestContext, test } from 'node:test'

/** The datapath under test: vswitchd's own (`netdev`) or the kernel's (`system`). */
export type Lane = 'userspace' | 'kernel'

/** The lane this process runs in. Throws where none was chosen: an integration test outside a lane proves nothing. */
export const lane: Lane = parseLane(process.env['OVS_BRIDGED_LANE'])

function parseLane(value: string | undefined): Lane {
  if (value === 'userspace' || value === 'kernel') return value
  throw new Error(`OVS_BRIDGED_LANE must be userspace or kernel, not ${value ?? 'unset'}`)
}

/** Whether daemons are confined to what their unit allows: `npm run test:all` runs the userspace lane once more that way. */
export const isConfined = process.env['OVS_BRIDGED_TEST_CONFINED'] === '1'

/** Which share of the lane's tests this process runs, `0/2`; all of them where nothing says so. */
const [share = 0, shares = 1] = (process.env['OVS_BRIDGED_SHARD'] ?? '0/1').split('/').map(Number)
let registered = 0

/** Nothing may hold a lane for longer than this, whatever it waits for. The user-mode kernel is some ten times slower. */
const defaultTimeoutMs = lane === 'kernel' ? 300_000 : 60_000

/**
 * Registers an integration test.
 * @param options.only the one lane it is for; without it the test runs in both
 * @param options.looksInside the test reads state of the daemon in its own process, where a confined one is not
 * @param options.timeoutMs the test fails when it takes longer; 60 s, or 300 s in the kernel lane, if not given
 */
export function laneTest(
  name: string,
  options: { readonly only?: Lane; readonly looksInside?: boolean; readonly timeoutMs?: number },
  run: (context: TestContext) => Promise<void>,
): void {
  if (options.only !== undefined && options.only !== lane) return
  if (options.looksInside === true && isConfined) return
  if (registered++ % shares !== share) return
  test(name, { timeout: options.timeoutMs ?? defaultTimeoutMs }, run)
}
