import { spawn } from 'node:child_process'
import type { CreateTapRequest } from '../src/gen/ovs/bridge/v1/tap.js'
import { type DaemonOptions, type DaemonProcess, spawnDaemon } from '../test/support/daemon-process.js'
import { linkNames } from '../test/support/namespace.js'
import type { PrivateOvs } from '../test/support/ovs.js'
import { type Api, connectTo } from '../test/support/rpc.js'
import { startTestbed } from '../test/support/testbed.js'
import { byCallers, type Settings, tapNames } from './bench.js'

/** An Open vSwitch that was started for this one measurement, with the bridge br0 and nothing on it. */
export interface World {
  readonly ovs: PrivateOvs
  readonly signal: AbortSignal
}

/** The daemon on a world, as a process of its own, and a client in this one. */
export interface Served extends World {
  readonly api: Api
  readonly daemon: DaemonProcess
}

/** Runs `work` with the service, with flags beside its usual ones. It has made and destroyed some taps before. */
export async function withService<T>(
  settings: Settings,
  work: (served: Served) => Promise<T>,
  options: Pick<DaemonOptions, 'flags' | 'nodeFlags' | 'env'> = {},
): Promise<T> {
  const { signal, profileDirectory } = settings
  await using bed = await startTestbed(signal)
  const flags = ['--default-bridge', 'br0', ...(options.flags ?? [])]
  const nodeFlags = [...profilingFlags(settings), ...(options.nodeFlags ?? [])]
  const daemon = bed.use(await spawnDaemon(bed.ovs, { ...options, flags, nodeFlags }))
  const { api } = bed.use(connectTo(daemon.address))
  await api.ensureBridge()
  await warmUp(settings, api)
  // ReapTaps has nothing to wait for when the service was quicker to reap.
  await bed.ovs.configure()
  const result = await undisturbed(bed.ovs, () => work({ ovs: bed.ovs, signal, api, daemon }))
  // Only a process that ends by itself writes its profile.
  if (profileDirectory !== undefined) await daemon.end('SIGTERM')
  return result
}

/** Flags of Node.js that make a daemon leave a profile. */
export function profilingFlags({ profileDirectory }: Settings): string[] {
  return profileDirectory === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profileDirectory}`]
}

/** Made and removed before a measurement begins, again and again, so that V8 has compiled most of what runs for each. */
export const warmTaps = tapNames(50, 100_000)

export function warmRounds({ smoke }: Settings): number {
  return smoke ? 1 : 20
}

/** The service is a daemon, and its client long-lived: what counts is how they do once their code is compiled. */
async function warmUp(settings: Settings, api: Api): Promise<void> {
  for (let i = 0; i < warmRounds(settings); i++) {
    await byCallers(8, warmTaps, tap => api.createTap({ tap }))
    await byCallers(8, warmTaps, tap => api.getTap({ tap }))
    await byCallers(8, warmTaps, tap => api.destroyTap({ tap }))
    await api.reapTaps()
  }
  await api.createTaps({ taps: [] })
}

/** Runs `work` without the service: nobody else is connected to the database. */
export async function withoutService<T>(settings: Settings, work: (world: World) => Promise<T>): Promise<T> {
  const { signal } = settings
  await using bed = await startTestbed(signal)
  const world = { ovs: bed.ovs, signal }
  await run(world, ['ovs-vsctl', `--db=${bed.ovs.endpoint}`, 'add-br', 'br0', '--', ...datapathOf(bed.ovs)])
  return await undisturbed(bed.ovs, () => work(world))
}

/** Throws where ovs-vswitchd has crashed meanwhile, and been started anew: the time was not that of the work. */
async function undisturbed<T>(ovs: PrivateOvs, work: () => Promise<T>): Promise<T> {
  const before = ovs.crashes
  const result = await work()
  if (ovs.crashes > before) throw new Error('ovs-vswitchd has crashed amid the measurement')
  return result
}

function datapathOf(ovs: PrivateOvs): string[] {
  return ['set', 'bridge', 'br0', `datapath_type=${ovs.datapathType}`]
}

/** Runs a program to its end; throws with what it said when it fails. */
export function run(world: World, [program = '', ...args]: readonly string[], input = ''): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['pipe', 'ignore', 'pipe'], signal: world.signal })
    let said = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    child.once('error', reject)
    child.once('close', code => {
      if (code === 0) resolve()
      else reject(new Error(`${program} ended with ${code}: ${said}`))
    })
    // A program that reads nothing may have ended by now, and one that failed says why by its end.
    child.stdin.once('error', () => {}).end(input)
  })
}

/** Throws unless exactly `count` taps have a device and an OpenFlow port: what is measured must have been done. */
export async function expectTaps({ ovs }: World, count: number): Promise<void> {
  const [found] = await ovs.transact({ op: 'select', table: 'Interface', where: [], columns: ['name', 'ofport'] })
  const { rows } = found as { rows: readonly { name: string; ofport: unknown }[] }
  const open = rows.filter(({ name, ofport }) => name.startsWith('b') && name !== 'br0' && Number(ofport) > 0).length
  const devices = linkNames().filter(name => /^b\d/.test(name)).length
  if (open !== count || devices !== count) {
    throw new Error(`there are ${open} ports and ${devices} devices, and should be ${count}`)
  }
}

/** Makes taps, some in each call: how long it takes is not measured. */
export async function fill({ api }: Served, taps: readonly string[]): Promise<void> {
  for (let i = 0; i < taps.length; i += 250) {
    await api.createTaps({ taps: taps.slice(i, i + 250).map(requestOf) }, { timeoutMs: bulkTimeoutMs })
  }
}

/** Nothing here is to fail because a machine is slow. */
export const bulkTimeoutMs = 300_000

export function requestOf(tap: string): CreateTapRequest {
  return { tap, vlan: 10, bridge: '', mac: '', mtu: 0, multiQueue: false }
}
