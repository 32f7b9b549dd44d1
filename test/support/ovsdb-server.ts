import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { until } from './until.js'

const run = promisify(execFile)
const vswitchSchema = '/usr/share/openvswitch/vswitch.ovsschema'

/** A real ovsdb-server of the test's own, with an empty Open_vSwitch database. Disposing it removes every trace. */
export interface PrivateOvsdbServer extends AsyncDisposable {
  readonly socketPath: string
  readonly databasePath: string
  /** Ends it at once, as a crash would. */
  kill(): Promise<void>
  /** Starts it again. `hidden`: on another socket, where only {@link vsctl} finds it. */
  start(where?: 'hidden'): Promise<void>
  /** Runs ovs-vsctl against it and gives what it printed. */
  vsctl(...args: readonly string[]): Promise<string>
}

export async function startOvsdbServer(): Promise<PrivateOvsdbServer> {
  const directory = await mkdtemp(join(tmpdir(), 'ovsdb-test-'))
  const databasePath = join(directory, 'conf.db')
  const socketPath = join(directory, 'db.sock')
  await run('ovsdb-tool', ['create', databasePath, vswitchSchema])
  let child: ReturnType<typeof spawn> | undefined
  let listening = socketPath

  const start = async (where?: 'hidden') => {
    listening = where === 'hidden' ? join(directory, 'hidden.sock') : socketPath
    const path = listening
    const options = [`--remote=punix:${path}`, `--unixctl=${join(directory, 'ctl')}`, '-vconsole:off']
    child = spawn('ovsdb-server', [databasePath, ...options], { stdio: 'ignore' })
    await until(`ovsdb-server listens on ${path}`, () => existsSync(path))
  }
  const kill = async () => {
    const dying = child
    child = undefined
    if (dying === undefined) return
    const exited = once(dying, 'exit')
    dying.kill('SIGKILL')
    await exited
    await rm(listening, { force: true })
  }
  const vsctl = async (...args: readonly string[]) =>
    (await run('ovs-vsctl', [`--db=unix:${listening}`, '--no-wait', ...args])).stdout
  await start()
  await vsctl('init')
  return {
    socketPath,
    databasePath,
    kill,
    start,
    vsctl,
    [Symbol.asyncDispose]: async () => {
      await kill()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
