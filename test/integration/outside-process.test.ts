import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Tap, TapState } from '../../src/gen/ovs/bridge/v1/tap.js'
import { command, mainProgram } from '../support/command.js'
import { type DaemonProcess, spawnDaemon } from '../support/daemon-process.js'
import { laneTest } from '../support/lane.js'
import { addAddress, findLink } from '../support/links.js'
import { createNamespace, enterNamespace, linkNames } from '../support/namespace.js'
import { ping } from '../support/ping.js'
import { isAlive } from '../support/process.js'
import { type Connection, connectTo, isServing } from '../support/rpc.js'
import { until, within } from '../support/until.js'

// An Open vSwitch of the daemon's own has the userspace datapath only.
const userspace = { only: 'userspace', timeoutMs: 85_000 } as const

/** A directory that several daemons keep their state in, one after the other. */
function stateDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'state-'))
  return {
    path,
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 20 }),
  }
}

/** The daemon's ovsdb-server and ovs-vswitchd (proc_pid_task(5), children). */
function childrenOf(daemon: DaemonProcess): { readonly pid: number; readonly program: string }[] {
  const threads = readdirSync(`/proc/${daemon.pid}/task`)
  const pids = threads.flatMap(thread =>
    readFileSync(`/proc/${daemon.pid}/task/${thread}/children`, 'utf8').trim().split(' ').filter(Boolean).map(Number),
  )
  const program = (pid: number) => readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  return pids.map(pid => ({ pid, program: program(pid) })).sort((a, b) => a.program.localeCompare(b.program))
}

function connected(daemon: DaemonProcess): Connection {
  return connectTo(daemon.address)
}

laneTest('what a start prints can be pasted into a shell', userspace, async context => {
  using _namespace = enterNamespace()
  await using daemon = await spawnDaemon('embedded')
  const said = await until('the last line of the banner', () => /grpcurl .*ListTaps\n$/.test(daemon.stdout())).then(
    () => daemon.stdout(),
  )
  const pasted = said.split('\n').filter(line => line.startsWith('  npx buf curl '))
  assert.equal(pasted.length, 3)
  const { status, stdout, stderr } = await command(context.signal, 'bash', '-ec', pasted.join('\n'))
  // npm may have warnings of its own to give.
  assert.equal(status, 0, stderr)
  assert.match(stdout, /"taps": \[\s*\{\s*"name": "tap0",\s*"bridge": "ovsbr0",\s*"vlan": 10,/)
})

laneTest('a service is there also when what it prints cannot be written', userspace, async () => {
  using _namespace = enterNamespace()
  using state = stateDirectory()
  const address = `unix:${join(state.path, 'rpc.sock')}`
  const places = ['--state-dir', state.path, '--listen', address, '--metrics-listen', 'off', '--log-level', 'error']
  const full = openSync('/dev/full', 'w')
  const args = [mainProgram, 'serve', '--embedded', ...places]
  const child = spawn(process.execPath, args, { stdio: ['ignore', full, 'inherit'] })
  closeSync(full)
  const ended = once(child, 'close')
  try {
    await until('it serves', () => isServing(address))
  } finally {
    child.kill('SIGTERM')
  }
  assert.deepEqual(await within('it ends', 20_000, ended), [0, null])
})

laneTest('SIGTERM lets a running call finish, then takes down all that the daemon ran', userspace, async () => {
  using _namespace = enterNamespace()
  await using daemon = await spawnDaemon('embedded')
  using connection = connected(daemon)
  const children = childrenOf(daemon)
  assert.deepEqual(
    children.map(child => child.program),
    ['ovs-vswitchd', 'ovsdb-server'],
  )
  await connection.api.ensureBridge()
  const vswitchd = children[0]?.pid ?? 0
  process.kill(vswitchd, 'SIGSTOP')
  const call = connection.api.createTap({ tap: 'late' })
  await until('the call is at work', () => findLink('late'))
  const ended = daemon.end('SIGTERM')
  await until('the socket is closed to others', async () => {
    using other = connected(daemon)
    return await other.api.listTaps({}, { timeoutMs: 1_000 }).then(
      () => false,
      () => true,
    )
  })
  process.kill(vswitchd, 'SIGCONT')
  assert.equal((await call).tap?.name, 'late')
  assert.equal(await ended, 0)
  assert.deepEqual(
    children.filter(child => isAlive(child.pid)),
    [],
  )
  assert(!existsSync(daemon.address.replace('unix:', '')))
  // A tap is its owner's until it is destroyed; of Open vSwitch nothing is left.
  assert.deepEqual(linkNames(), ['late', 'lo'])
})

laneTest('a daemon that is killed takes its Open vSwitch along', userspace, async () => {
  using _namespace = enterNamespace()
  await using daemon = await spawnDaemon('embedded')
  const children = childrenOf(daemon)
  await daemon.end('SIGKILL')
  await until('both are dead', () => children.every(child => !isAlive(child.pid)))
  assert.equal(children.length, 2)
})

for (const [how, signal] of [
  ['killed', 'SIGKILL'],
  ['stopped', 'SIGTERM'],
] as const) {
  laneTest(`after a daemon was ${how}, the next has its taps and they pass packets`, userspace, async () => {
    using namespace = enterNamespace()
    using state = stateDirectory()
    using red = createNamespace('red')
    using blue = createNamespace('blue')
    await using first = await spawnDaemon('embedded', { stateDir: state.path })
    using before = connected(first)
    await before.api.ensureBridge()
    await before.api.createContainerTap({ tap: 'red', netns: red.path, vlan: 10 })
    await before.api.createContainerTap({ tap: 'blue', netns: blue.path, vlan: 10 })
    await before.api.createTap({ tap: 'vm1', vlan: 20 })
    await before.api.createHostTap({ tap: 'host0', vlan: 10 })
    red.run(() => addAddress('veth0', '10.0.0.1/24'))
    blue.run(() => addAddress('veth0', '10.0.0.2/24'))
    await ping(red, '10.0.0.2')
    const { taps } = await before.api.listTaps()
    await first.end(signal)

    await using second = await spawnDaemon('embedded', { stateDir: state.path })
    using after = connected(second)
    assert.deepEqual((await after.api.listTaps()).taps.map(withoutAddresses), taps.map(withoutAddresses))
    await ping(red, '10.0.0.2')
    addAddress('host0', '10.0.0.3/24')
    await ping(namespace, '10.0.0.2')
    await after.api.destroyBridge({ bridge: 'ovsbr0' })
    assert.equal(await second.end('SIGTERM'), 0)
    assert.deepEqual(linkNames(), ['lo'])
  })
}

/** What was learned just before a kill is not written down yet. */
function withoutAddresses({ addresses: _, ip4: __, ip6: ___, ...tap }: Tap) {
  return tap
}

laneTest('a daemon killed amid calls leaves no tap half made', userspace, async () => {
  using _namespace = enterNamespace()
  using state = stateDirectory()
  await using first = await spawnDaemon('embedded', { stateDir: state.path })
  using before = connected(first)
  await before.api.ensureBridge()
  const answered: string[] = []
  const create = async (tap: string) => {
    await before.api.createTap({ tap })
    answered.push(tap)
  }
  const calls = Promise.allSettled(Array.from({ length: 40 }, (_, i) => create(`vm${i}`)))
  const madeDevices = () => linkNames().filter(name => name.startsWith('vm'))
  await until('calls are at work', () => answered.length > 0 || madeDevices().length > 30, { everyMs: 1 })
  await first.end('SIGKILL')
  await calls

  await using second = await spawnDaemon('embedded', { stateDir: state.path })
  using after = connected(second)
  const { taps } = await after.api.listTaps({ includeDefunct: true })
  const names = taps.map(tap => tap.name).sort()
  assert.deepEqual(
    answered.filter(name => !names.includes(name)),
    [],
  )
  assert.deepEqual(
    taps.filter(tap => tap.state !== TapState.ACTIVE || tap.ovsError !== ''),
    [],
  )
  assert.deepEqual(madeDevices(), names)
})

laneTest(
  'a second daemon on the same state directory is refused, and the first stays as it is',
  userspace,
  async () => {
    using _namespace = enterNamespace()
    using state = stateDirectory()
    await using first = await spawnDaemon('embedded', { stateDir: state.path })
    const refusal = new RegExp(`cannot start: another ovs-bridged uses ${state.path}/ovs: pid ${first.pid}\n$`)
    // In a network of its own, so that nothing but the directory is in the way.
    const second = async () => {
      using _elsewhere = enterNamespace()
      return await spawnDaemon('embedded', { stateDir: state.path })
    }
    await assert.rejects(second(), refusal)
    using connection = connected(first)
    assert.equal((await connection.api.ensureBridge()).bridge?.name, 'ovsbr0')
  },
)

laneTest('a second daemon on the same socket is refused, and the first keeps it', userspace, async () => {
  using _namespace = enterNamespace()
  await using first = await spawnDaemon('embedded')
  // In a network of its own, so that nothing but the socket is in the way.
  const second = async () => {
    using _elsewhere = enterNamespace()
    return await spawnDaemon('embedded', { flags: ['--listen', first.address] })
  }
  await assert.rejects(second(), /cannot start: another daemon is listening on /)
  using connection = connected(first)
  assert.equal((await connection.api.ensureBridge()).bridge?.name, 'ovsbr0')
})
