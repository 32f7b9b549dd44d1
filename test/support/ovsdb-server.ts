import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { until } from './until.js'

const run = promisify(execFile)
export const vswitchSchema = '/usr/share/openvswitch/vswitch.ovsschema'

/** A real ovsdb-server of the test's own. Disposing it removes every trace. */
export interface PrivateOvsdbServer extends AsyncDisposable {
  readonly socketPath: string
  readonly databasePath: string
  /** Ends it at once, as a crash would. */
  kill(): Promise<void>
  /** Starts it again. `hidden`: on another socket, where only {@link vsctl} finds it. */
  start(where?: 'hidden'): Promise<void>
  /** Runs ovs-vsctl against it and gives what it printed. */
  vsctl(...args: readonly string[]): Promise<string>
  /** Tells it something on its control socket, as ovs-appctl does. */
  appctl(...args: readonly string[]): Promise<string>
  /** Has it take over its schema anew, as one of this version. */
  convert(version: string): Promise<void>
  /** Runs ovsdb-client with these arguments behind the server's address, and gives what it printed. */
  client(command: string, ...args: readonly string[]): Promise<string>
}

export interface ServerOptions {
  /** Of the database; without it that of Open vSwitch, with its one root row. */
  readonly schemaPath?: string
  /** One server can be a cluster too: only then the database has a history. */
  readonly model?: 'standalone' | 'clustered'
}

export async function startOvsdbServer(options: ServerOptions = {}): Promise<PrivateOvsdbServer> {
  const { schemaPath = vswitchSchema, model = 'standalone' } = options
  const directory = await mkdtemp(join(tmpdir(), 'ovsdb-test-'))
  const databasePath = join(directory, 'conf.db')
  const socketPath = join(directory, 'db.sock')
  const cluster = [`unix:${join(directory, 'raft')}`]
  const creation =
    model === 'clustered'
      ? ['create-cluster', databasePath, schemaPath, ...cluster]
      : ['create', databasePath, schemaPath]
  await run('ovsdb-tool', creation)
  const control = join(directory, 'ctl')
  let child: ReturnType<typeof spawn> | undefined
  let listening = socketPath

  const start = async (where?: 'hidden') => {
    listening = where === 'hidden' ? join(directory, 'hidden.sock') : socketPath
    const path = listening
    const options = [`--remote=punix:${path}`, `--unixctl=${control}`, '-vconsole:off']
    child = spawn('ovsdb-server', [databasePath, ...options], { stdio: 'ignore' })
    await until(`ovsdb-server listens on ${path}`, () => existsSync(path) && existsSync(control))
  }
  const kill = async () => {
    const dying = child
    child = undefined
    if (dying === undefined) return
    const exited = once(dying, 'exit')
    dying.kill('SIGKILL')
    await exited
    await Promise.all([listening, control].map(path => rm(path, { force: true })))
  }
  const vsctl = async (...args: readonly string[]) =>
    (await run('ovs-vsctl', [`--db=unix:${listening}`, '--no-wait', ...args])).stdout
  const appctl = async (...args: readonly string[]) => (await run('ovs-appctl', ['-t', control, ...args])).stdout
  const client = async (command: string, ...args: readonly string[]) =>
    (await run('ovsdb-client', [command, `unix:${listening}`, ...args], { maxBuffer: 2 ** 26 })).stdout
  const convert = async (version: string) => {
    const next = join(directory, 'next.ovsschema')
    const text = await readFile(schemaPath, 'utf8')
    await writeFile(next, text.replace(/"version": "[^"]*"/, `"version": "${version}"`))
    await client('convert', next)
  }
  await start()
  if (schemaPath === vswitchSchema) await vsctl('init')
  return {
    socketPath,
    databasePath,
    kill,
    start,
    vsctl,
    appctl,
    convert,
    client,
    [Symbol.asyncDispose]: async () => {
      await kill()
      await rm(directory, { recursive: true, force: true })
    },
  }
}
