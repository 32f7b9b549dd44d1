import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TapSpec } from '../src/kernel/link.js'
import { parseLinkName } from '../src/kernel/names.js'
import { NETLINK_ROUTE, openNetlinkSocket } from '../src/kernel/netlink/socket.js'
import { newStages, stageOf } from '../src/kernel/operations.js'
import { createTaps } from '../src/kernel/tap.js'
import { Disposables } from '../src/lib/disposables.js'
import { loadSyscalls } from '../src/lib/syscall.js'
import { type Api, connectTo } from '../test/support/rpc.js'
import { byCallers, type Settings } from './bench.js'
import { removeAtOnce } from './by-hand.js'
import { firstRow, openRawDatabase } from './raw-database.js'
import { bulkTimeoutMs, type World, warmRounds, warmTaps, withoutService } from './world.js'

/** A script that does what CreateTap does and no more: no service, no other thread, no replica, no undoing. */
export interface Script {
  /** The device by the same system calls, the same rows, then a wait for `cur_cfg`. */
  addTap(tap: string): Promise<void>
  /** As many callers at once could have it at best: all devices, then all rows in one transaction, then one wait. */
  addTaps(taps: readonly string[]): Promise<void>
}

/** On the ovsdb-server of that address, `unix:/…`. */
export async function openRawScript(endpoint: string): Promise<Script & Disposable> {
  const syscalls = loadSyscalls()
  const route = openNetlinkSocket(syscalls, NETLINK_ROUTE)
  if (!route.ok) throw new Error(`netlink: errno ${route.errno}`)
  let current = 0
  let proceed = () => {}
  const database = await openRawDatabase(endpoint, ['cur_cfg'], ({ cur_cfg = 0 }) => {
    current = cur_cfg
    proceed()
  })
  const reached = (epoch: number) =>
    new Promise<void>(resolve => {
      proceed = () => {
        if (current >= epoch) resolve()
      }
      proceed()
    })
  const [found] = await database.transact([{ op: 'select', table: 'Bridge', where: [['name', '==', 'br0']] }])
  const bridge = firstRow(found)['_uuid']
  const addTaps = async (taps: readonly string[]) => {
    const order = { specs: taps.map(specOf), stage: stageOf(newStages(1), 0) }
    for (const [, made] of createTaps({ syscalls, route: route.value }, [order])) if (!made.ok) throw made.error
    const results = await database.transact([...taps.flatMap(tap => rowsOf(tap, bridge)), ...bumpEpoch])
    await reached(Number(firstRow(results.at(-1))['next_cfg']))
  }
  return {
    addTap: tap => addTaps([tap]),
    addTaps,
    [Symbol.dispose]: () => {
      route.value[Symbol.dispose]()
      database[Symbol.dispose]()
    },
  }
}

/** What the service gets, so that compiled code is compared with compiled code. */
export async function warmUp(
  settings: Settings,
  world: World,
  add: (tap: string) => Promise<unknown>,
  callers = 1,
): Promise<void> {
  for (let i = 0; i < warmRounds(settings); i++) {
    await byCallers(callers, warmTaps, add)
    await removeAtOnce(world, warmTaps)
  }
}

/** The least service that has CreateTap, least-service.ts, as a process on a world. */
export interface LeastServed extends World {
  /** `unix:/…` */
  readonly address: string
  /** CreateTap. */
  add(tap: string): Promise<unknown>
}

/**
 * Runs `work` with the least service for as many callers at a time, and as many calls in all: the floor of any service. It has
 * made some taps before.
 */
export function withLeastService<T>(
  settings: Settings,
  { callers, calls }: { readonly callers: number; readonly calls: number },
  work: (served: LeastServed) => Promise<T>,
): Promise<T> {
  return withoutService(settings, async world => {
    const toCome = calls + warmRounds(settings) * warmTaps.length
    const argsFor = (address: string) => [world.ovs.endpoint, address, String(callers), String(toCome)]
    await using service = await startService('least-service.js', argsFor)
    const add = (tap: string) => service.api.createTap({ tap, vlan: 10 }, { timeoutMs: bulkTimeoutMs })
    await warmUp(settings, world, add, callers)
    return await work({ ...world, address: service.address, add })
  })
}

interface StartedService extends AsyncDisposable {
  readonly address: string
  readonly api: Api
}

/** Starts a program beside this one, with the arguments for an address of its own. */
export async function startService(
  program: string,
  argsFor: (address: string) => readonly string[],
): Promise<StartedService> {
  const parts = new Disposables()
  const scratch = mkdtempSync(join(tmpdir(), 'service-'))
  parts.defer(() => rmSync(scratch, { recursive: true }))
  const address = `unix:${join(scratch, 'rpc.sock')}`
  const path = fileURLToPath(new URL(program, import.meta.url))
  const child = spawn(process.execPath, ['--enable-source-maps', path, ...argsFor(address)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'close').then(() => 'ended' as const)
  parts.defer(async () => {
    child.kill()
    await ended
  })
  try {
    if ((await Promise.race([once(child.stdout, 'data'), ended])) === 'ended') throw new Error(`${program} ended`)
    const { api } = parts.use(connectTo(address))
    return { address, api, [Symbol.asyncDispose]: () => parts[Symbol.asyncDispose]() }
  } catch (error) {
    await parts[Symbol.asyncDispose]()
    throw error
  }
}

function specOf(tap: string): TapSpec {
  const name = parseLinkName(tap)
  if (!name.ok) throw new Error(`${tap} is no name of a link`)
  return { name: name.value, alias: 'bench', multiQueue: false }
}

function rowsOf(tap: string, bridge: unknown): unknown[] {
  const marks = (entries: Readonly<Record<string, string>>) => ['map', Object.entries(entries)]
  const record = { instance: 'bench', format: '1', tap, id: '0123456789ab', kind: 'tuntap', vlan: '10', bridge: 'br0' }
  return [
    {
      op: 'insert',
      table: 'QoS',
      'uuid-name': `qos_${tap}`,
      row: { type: 'linux-noop', external_ids: marks(record) },
    },
    { op: 'insert', table: 'Interface', 'uuid-name': `interface_${tap}`, row: { name: tap, type: '' } },
    {
      op: 'insert',
      table: 'Port',
      'uuid-name': `port_${tap}`,
      row: {
        name: tap,
        interfaces: ['named-uuid', `interface_${tap}`],
        tag: 10,
        qos: ['named-uuid', `qos_${tap}`],
        external_ids: marks({ instance: 'bench', role: 'tap' }),
      },
    },
    {
      op: 'mutate',
      table: 'Bridge',
      where: [['_uuid', '==', bridge]],
      mutations: [['ports', 'insert', ['named-uuid', `port_${tap}`]]],
    },
  ]
}

const bumpEpoch = [
  { op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 1]] },
  { op: 'select', table: 'Open_vSwitch', where: [], columns: ['next_cfg'] },
]
