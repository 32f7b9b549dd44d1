import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { mainProgram } from '../support/command.js'
import { spawnDaemon } from '../support/daemon-process.js'
import { laneTest } from '../support/lane.js'
import { listeningSocket } from '../support/listening-socket.js'
import { logOf } from '../support/log.js'
import { linkNames } from '../support/namespace.js'
import { openNotifySocket } from '../support/notify-socket.js'
import { blankTap, connectTo, isServing, RpcError } from '../support/rpc.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

// A process and what surrounds it: nothing of the datapath.
const userspace = { only: 'userspace', timeoutMs: 85_000 } as const

for (const [path, signal] of [
  ['/tmp/notify', 'SIGTERM'],
  ['@ovs-bridged-test', 'SIGHUP'],
] as const) {
  laneTest(`systemd at ${path} hears that it is ready, alive, and ended by ${signal}`, userspace, async context => {
    await using bed = await startTestbed(context.signal)
    using systemd = openNotifySocket(path)
    const daemon = bed.use(await spawnDaemon(bed.ovs, { env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: '300000' } }))
    await systemd.hears('READY=1')
    assert(systemd.heard().includes(`STATUS=serves on ${daemon.address}`))
    await systemd.hears('WATCHDOG=1', 3)
    assert(!systemd.heard().includes('STOPPING=1'))
    const ended = daemon.end(signal)
    await systemd.hears('STOPPING=1')
    assert.equal(await ended, 0)
    assert.equal(systemd.heard().filter(one => one === 'READY=1').length, 1)
  })
}

laneTest(
  'the watchdog hears from a daemon whose database hangs, not from one that hangs itself',
  userspace,
  async context => {
    await using bed = await startTestbed(context.signal)
    using systemd = openNotifySocket('/tmp/notify')
    // On SIGUSR2 the main thread does nothing else for two seconds; standard error tells how often it has been told to.
    const hang = `data:text/javascript,process.on('SIGUSR2',()=>{const e=Date.now()+2000;while(Date.now()<e);console.error('over')})`
    const env = { NOTIFY_SOCKET: '/tmp/notify', WATCHDOG_USEC: '300000' }
    const daemon = bed.use(await spawnDaemon(bed.ovs, { env, nodeFlags: ['--import', hang] }))
    const beats = () => systemd.heard().filter(one => one === 'WATCHDOG=1').length

    bed.ovs.ovsdbServer.stop()
    await systemd.hears('WATCHDOG=1', beats() + 10)
    bed.ovs.ovsdbServer.continue()

    const before = beats()
    process.kill(daemon.pid, 'SIGUSR2')
    await until('it has hung', () => daemon.stderr().includes('over'))
    // Of some twenty it has missed all but those before the signal came and after the end.
    const during = beats() - before
    assert(during < 12, `${during} while it hung`)
    await systemd.hears('WATCHDOG=1', beats() + 3)
  },
)

laneTest('health tells that ovs-vswitchd was killed, and that another has come', userspace, async context => {
  await using bed = await startTestbed(context.signal)
  const { address } = bed.use(await spawnDaemon(bed.ovs))
  await until('it serves', () => isServing(address))
  await bed.ovs.vswitchd.kill()
  await until('it says that it cannot serve', async () => !(await isServing(address)))
  await bed.ovs.vswitchd.restart()
  await until('it serves again', () => isServing(address))
})

/** A daemon that is about to serve: it waits for a database that there is not. */
async function spawnStarting() {
  const directory = mkdtempSync(join(tmpdir(), 'life-'))
  const places = ['--state-dir', directory, '--listen', `unix:${directory}/s`, '--metrics-listen', 'off']
  const nowhere = ['--ovsdb', `unix:${directory}/nowhere`]
  const daemon = spawn(process.execPath, [mainProgram, 'serve', ...nowhere, ...places], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = once(daemon, 'close')
  let [said, logged] = ['', '']
  daemon.stdout.setEncoding('utf8').on('data', (text: string) => (said += text))
  daemon.stderr.setEncoding('utf8').on('data', (text: string) => (logged += text))
  await until('it waits for the database', () => logged.includes('"ovsdb"'))
  return {
    daemon,
    ended,
    stdout: () => said,
    stderr: () => logged,
    [Symbol.dispose]: () => rmSync(directory, { recursive: true }),
  }
}

laneTest('a daemon that is stopped while it starts does not serve first', userspace, async () => {
  using starting = await spawnStarting()
  starting.daemon.kill('SIGTERM')
  assert.deepEqual(await starting.ended, [0, null])
  assert.equal(starting.stdout(), '')
})

laneTest('a signal opens no debugger to who is on this host', userspace, async () => {
  using starting = await spawnStarting()
  starting.daemon.kill('SIGUSR1')
  starting.daemon.kill('SIGTERM')
  assert.deepEqual(await starting.ended, [0, null])
  assert(!starting.stderr().includes('Debugger'), starting.stderr())
})

laneTest('a socket that systemd passes is served, and stays when the daemon ends', userspace, async context => {
  await using bed = await startTestbed(context.signal)
  const path = '/tmp/passed.sock'
  const fd = listeningSocket(path)
  const passed = {
    flags: ['--listen', 'systemd:api,role=viewer'],
    // systemd names the process that it starts; sh knows its own number, and becomes the daemon.
    through: ['sh', '-c', 'LISTEN_PID=$$ exec "$0" "$@"'],
    env: { LISTEN_FDS: '1', LISTEN_FDNAMES: 'api' },
    fds: [fd],
  }
  using connection = connectTo(`unix:${path}`)
  for (const _ of ['first', 'second']) {
    await using daemon = await spawnDaemon(bed.ovs, passed)
    await until('the socket answers', () => connection.api.listTaps().then(() => true), { deadlineMs: 30_000 })
    await assert.rejects(connection.api.ensureBridge(), { code: 'PERMISSION_DENIED', reason: 'PERMISSION_DENIED' })
    assert.equal(await daemon.end('SIGTERM'), 0)
    assert(existsSync(path))
  }
  closeSync(fd)
  const refused = spawnDaemon(bed.ovs, { flags: ['--listen', 'systemd:api'] })
  await assert.rejects(refused, /cannot start: systemd passed no socket named api/)
})

laneTest('who changed what stands in the log and in the database, and who was refused', userspace, async context => {
  await using bed = await startTestbed(context.signal)
  const viewers = '/tmp/view.sock'
  const flags = ['--listen', `unix:${viewers},role=viewer,mode=0600`, '--drain-timeout', '2s']
  const daemon = bed.use(await spawnDaemon(bed.ovs, { flags }))
  using admin = connectTo(daemon.address)
  using viewer = connectTo(`unix:${viewers}`)
  await admin.api.ensureBridge({ bridge: 'lab' })
  await admin.api.createTap({ bridge: 'lab', tap: 'vm1', vlan: 10 })
  await viewer.api.getTap({ tap: 'vm1' })
  await assert.rejects(viewer.api.destroyTap({ tap: 'vm1' }), (error: unknown) => {
    assert(error instanceof RpcError)
    assert.deepEqual(
      [error.code, error.message, error.reason],
      ['PERMISSION_DENIED', 'not permitted', 'PERMISSION_DENIED'],
    )
    return true
  })
  const me = `uid=${process.getuid?.()} pid=${process.pid}`
  const lineOf = (method: string) => logOf(daemon.stderr()).find(line => line['method'] === method)
  const created = await until('the line of CreateTap', () => lineOf('CreateTap'))
  assert.deepEqual([created['caller'], created['code']], [me, 'OK'])
  assert.deepEqual(created['audit'], { bridge: 'lab', tap: 'vm1', vlan: 10 })
  assert.equal(typeof created['durationMs'], 'number')
  assert.equal((await until('the line of GetTap', () => lineOf('GetTap')))['audit'], undefined)
  const refused = await until('the line of DestroyTap', () => lineOf('DestroyTap'))
  assert.deepEqual([refused['caller'], refused['code']], [me, 'PERMISSION_DENIED'])
  // ovsdb(5): a transaction stands in the file with its comment.
  const database = readFileSync(join(dirname(bed.ovs.endpoint.slice('unix:'.length)), 'conf.db'), 'utf8')
  assert(database.includes(`"_comment":"ovs-bridged default: CreateTap by ${me}"`))

  // A second signal, such as npm's beside the terminal's, does not cut short what the first one lets run.
  await bed.ovs.vswitchd.kill()
  const pending = assert.rejects(admin.api.createTap({ bridge: 'lab', tap: 'vm2' }))
  await until('its device is made', () => linkNames().includes('vm2'))
  const ended = daemon.end('SIGTERM')
  await until('the line of the stop', () => logOf(daemon.stderr()).some(({ msg }) => msg === 'stopping'))
  void daemon.end('SIGTERM')
  assert.equal(await ended, 0)
  await pending
  assert(logOf(daemon.stderr()).some(line => line['method'] === 'CreateTap' && line['code'] !== 'OK'))
})

laneTest('a call that the end cuts short leaves none of its devices', userspace, async context => {
  await using bed = await startTestbed(context.signal)
  const daemon = bed.use(await spawnDaemon(bed.ovs, { flags: ['--drain-timeout', '100ms'] }))
  using connection = connectTo(daemon.address)
  await connection.api.ensureBridge()
  await bed.ovs.vswitchd.kill()
  const taps = Array.from({ length: 400 }, (_, i) => ({ ...blankTap, tap: `vm${i}` }))
  const pending = assert.rejects(connection.api.createTaps({ taps }))
  const made = () => linkNames().filter(name => name.startsWith('vm')).length
  await until('its devices are made', () => made() === 400)
  assert.equal(await daemon.end('SIGTERM'), 0)
  assert.equal(made(), 0)
  await pending
})

laneTest('a crash is told in the log and by the exit status, and the next start is clean', userspace, async context => {
  await using bed = await startTestbed(context.signal)
  const crash = "data:text/javascript,process.on('SIGUSR2',()=>{throw new Error('crash on demand')})"
  const first = bed.use(await spawnDaemon(bed.ovs, { nodeFlags: ['--import', crash] }))
  using before = connectTo(first.address)
  await before.api.ensureBridge()
  await before.api.createTap({ tap: 'vm1' })
  const status = await first.end('SIGUSR2')
  assert(typeof status === 'number' && status > 0, `${status}`)
  const fatal = logOf(first.stderr()).find(line => line['level'] === 'fatal')
  assert.match(JSON.stringify(fatal), /crash on demand/)
  const second = bed.use(await spawnDaemon(bed.ovs))
  using after = connectTo(second.address)
  assert.deepEqual(
    (await after.api.listTaps()).taps.map(({ name }) => name),
    ['vm1'],
  )
})
