import { run, type World } from './world.js'

/** What an engineer types: three programs a tap, each waited for. */
const addLoop = `
for tap; do
  ip tuntap add dev "$tap" mode tap && ip link set "$tap" up && ovs-vsctl --db="$DB" add-port br0 "$tap" tag=10 || exit 1
done`

const deleteLoop = `
for tap; do
  ip link del "$tap" && ovs-vsctl --db="$DB" del-port br0 "$tap" || exit 1
done`

/** Makes taps one after the other with `ip` and `ovs-vsctl`. */
export async function addOneByOne(world: World, taps: readonly string[]): Promise<void> {
  await run(world, ['env', `DB=${world.ovs.endpoint}`, 'sh', '-c', addLoop, 'sh', ...taps])
}

/** Removes taps one after the other with `ip` and `ovs-vsctl`. */
export async function deleteOneByOne(world: World, taps: readonly string[]): Promise<void> {
  await run(world, ['env', `DB=${world.ovs.endpoint}`, 'sh', '-c', deleteLoop, 'sh', ...taps])
}

/** Makes taps with one `ip -batch` and one `ovs-vsctl`: the least that the tools need. */
export async function addAtOnce(world: World, taps: readonly string[]): Promise<void> {
  await runIpBatch(
    world,
    taps.flatMap(tap => [`tuntap add dev ${tap} mode tap`, `link set ${tap} up`]),
  )
  await run(world, [
    'ovs-vsctl',
    `--db=${world.ovs.endpoint}`,
    ...taps.flatMap(tap => ['--', 'add-port', 'br0', tap, 'tag=10']),
  ])
}

/** Removes ports with one `ovs-vsctl`; their devices stay. */
export async function deletePortsAtOnce(world: World, taps: readonly string[]): Promise<void> {
  await run(world, ['ovs-vsctl', `--db=${world.ovs.endpoint}`, ...taps.flatMap(tap => ['--', 'del-port', 'br0', tap])])
}

/** Removes devices with one `ip -batch`, as one would write it. */
export async function deleteDevicesAtOnce(world: World, taps: readonly string[]): Promise<void> {
  await runIpBatch(
    world,
    taps.map(tap => `link del ${tap}`),
  )
}

/** Puts devices into a group of the kernel's, for {@link deleteGroup}. */
export async function groupDevices(world: World, taps: readonly string[]): Promise<void> {
  await runIpBatch(
    world,
    taps.map(tap => `link set ${tap} group ${group}`),
  )
}

/** Removes the devices of the group in one request: nothing is quicker. */
export async function deleteGroup(world: World): Promise<void> {
  await run(world, ['ip', 'link', 'del', 'group', group])
}

const group = '1000'

/** Removes ports, and then their devices. */
export async function removeAtOnce(world: World, taps: readonly string[]): Promise<void> {
  await deletePortsAtOnce(world, taps)
  await deleteDevicesAtOnce(world, taps)
}

async function runIpBatch(world: World, lines: readonly string[]): Promise<void> {
  await run(world, ['ip', '-batch', '-'], `${lines.join('\n')}\n`)
}

/**
 * Milliseconds that `count` taps would take one by one, from two samples of `sampled` taps: with the fewest ports and with
 * the most. ovs-vswitchd walks over all ports for each change, so that the time of one grows with them evenly.
 */
export function wholeLoopMs(count: number, sampled: number, sampleMs: readonly [number, number]): number {
  return ((sampleMs[0] + sampleMs[1]) / (2 * sampled)) * count
}
