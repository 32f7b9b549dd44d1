import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseConfig } from '../../src/config.js'
import { type Daemon, startDaemon } from '../../src/daemon.js'
import { createLog } from '../../src/log/index.js'
import { isConfined } from './confined.js'
import { spawnDaemon } from './daemon-process.js'
import { type Api, connectTo } from './rpc.js'
import { startTestbed, type Testbed } from './testbed.js'

/** The daemon on the test's own Open vSwitch, within this process, and a client of it. */
export interface Service extends AsyncDisposable {
  readonly api: Api
  /** What runs in this process; for tests that look inside. */
  readonly daemon: Daemon
  /** `unix:/…`, for clients of other kinds. */
  readonly address: string
}

/** Starts the daemon with flags beside those that name the test's Open vSwitch. */
export async function startService(bed: Testbed, ...flags: readonly string[]): Promise<Service> {
  const directory = mkdtempSync(join(tmpdir(), 'service-'))
  const address = `unix:${directory}/api.sock`
  const on = ['--ovsdb', bed.ovs.endpoint, '--datapath', bed.ovs.datapathType, '--default-bridge', 'br0']
  const paths = ['--listen', address, '--state-dir', directory, '--metrics-listen', 'off']
  if (isConfined) return await startConfinedService(bed, ['--default-bridge', 'br0', ...flags])
  const invocation = parseConfig(['serve', ...on, ...paths, ...flags], {}, 'test')
  if (invocation.kind !== 'serve') throw new Error(JSON.stringify(invocation))
  const level = process.env['OVS_BRIDGED_TEST_LOG'] === 'info' ? 'info' : 'error'
  const daemon = await startDaemon(invocation.config, createLog(level), 'test')
  const connection = connectTo(address)
  let closed: Promise<void> | undefined
  const close = async () => {
    connection[Symbol.dispose]()
    await daemon[Symbol.asyncDispose]()
    rmSync(directory, { recursive: true, force: true })
  }
  return {
    api: connection.api,
    daemon,
    address,
    [Symbol.asyncDispose]: () => {
      closed ??= close()
      return closed
    },
  }
}

/** The same as a process that has only the capabilities of deploy/ovs-bridged.service. */
async function startConfinedService(bed: Testbed, flags: readonly string[]): Promise<Service> {
  const daemon = await spawnDaemon(bed.ovs, { flags })
  const connection = connectTo(daemon.address)
  let closed: Promise<void> | undefined
  const close = async () => {
    connection[Symbol.dispose]()
    const status = await daemon.end('SIGTERM')
    await daemon[Symbol.asyncDispose]()
    if (status !== 0) throw new Error(`the daemon ended with ${status}: ${daemon.stderr()}`)
  }
  return {
    api: connection.api,
    get daemon(): never {
      throw new Error('the daemon is another process')
    },
    address: daemon.address,
    [Symbol.asyncDispose]: () => {
      closed ??= close()
      return closed
    },
  }
}

/** A test's world with the service in it, and the bridge br0 managed. */
export interface ServedTestbed extends Testbed {
  readonly service: Service
  readonly api: Api
}

export async function startServedTestbed(signal: AbortSignal, ...flags: readonly string[]): Promise<ServedTestbed> {
  const bed = await startTestbed(signal)
  try {
    const service = bed.use(await startService(bed, ...flags))
    await service.api.ensureBridge()
    return { ...bed, service, api: service.api }
  } catch (error) {
    await bed[Symbol.asyncDispose]()
    throw error
  }
}
