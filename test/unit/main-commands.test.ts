import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { mainProgram, quoted } from '../support/command.js'
import { checkout } from '../support/readme.js'
import { openTerminal } from '../support/terminal.js'
import { within } from '../support/until.js'

const { version } = JSON.parse(readFileSync(new URL('package.json', checkout), 'utf8')) as { readonly version: string }

interface Outcome {
  readonly status: number | string | null | undefined
  readonly stdout: string
  readonly stderr: string
}

function run(program: string, args: readonly string[]): Promise<Outcome> {
  return new Promise(resolve => {
    execFile(program, args, { timeout: 20_000 }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : error.code, stdout, stderr })
    })
  })
}

const ovsBridged = (...args: readonly string[]) => run(process.execPath, [mainProgram, ...args])

test('--version prints the version of the package', async () => {
  assert.deepEqual(await ovsBridged('--version'), { status: 0, stdout: `${version}\n`, stderr: '' })
})

test('--help names the command to serve', async () => {
  const { status, stdout, stderr } = await ovsBridged('--help')
  assert.deepEqual([status, stderr], [0, ''])
  assert.match(stdout, /^Usage: ovs-bridged [^]*\n {2}serve /)
})

test('help that nobody reads is no failure, help that cannot be written is one line and exit 1', async () => {
  const unread = spawn(process.execPath, [mainProgram, '--help'], { stdio: ['ignore', 'pipe', 'pipe'] })
  unread.stdout.destroy()
  let said = ''
  unread.stderr.on('data', (bytes: Buffer) => (said += bytes.toString()))
  assert.deepEqual([await once(unread, 'close'), said], [[0, null], ''])

  const full = await run('sh', ['-c', `${quoted(process.execPath, mainProgram)} --help >/dev/full`])
  assert.deepEqual([full.status, full.stderr], [1, 'ovs-bridged: standard output cannot be written\n'])
})

test('serve --help names the flags', async () => {
  const { status, stdout } = await ovsBridged('serve', '--help')
  assert.equal(status, 0)
  assert.match(stdout, /--embedded [^]*--drain-timeout/)
})

test('a flag that there is not is one line and exit 2', async () => {
  const outcome = await ovsBridged('serve', '--bogus')
  assert.deepEqual(outcome, { status: 2, stdout: '', stderr: "unknown option '--bogus'\n" })
})

test('a value that cannot be is one line and exit 2', async () => {
  const { status, stdout, stderr } = await ovsBridged('serve', '--listen', '0.0.0.0:1')
  assert.deepEqual([status, stdout], [2, ''])
  assert.match(stderr, /^--listen "0\.0\.0\.0:1" [^\n]+\n$/)
})

test('capture says where its packets are to go, or is one line and exit 2', async () => {
  const outcome = await ovsBridged('capture', '--tap', 'one')
  assert.deepEqual(outcome, { status: 2, stdout: '', stderr: "required option '-w, --write <file>' not specified\n" })
})

for (const [options, why] of [
  [[], '--tap or --bridge has to say what is captured\n'],
  [['--tap', 'one', '--bridge', 'br0'], '--tap and --bridge exclude each other\n'],
  [
    ['--tap', 'one', '--snap-len', '262145'],
    "option '--snap-len <bytes>' argument '262145' is invalid. It is not 1 to 262144.\n",
  ],
] as const) {
  test(`capture ${['-w', 'file', ...options].join(' ')} is one line and exit 2`, async () => {
    assert.deepEqual(await ovsBridged('capture', '-w', 'file', ...options), { status: 2, stdout: '', stderr: why })
  })
}

test('a count of nothing is one line and exit 2', async () => {
  const { status, stdout, stderr } = await ovsBridged('top', '--count', '0')
  assert.deepEqual([status, stdout], [2, ''])
  assert.match(stderr, /^[^\n]*It is not a whole number from 1\.\n$/)
})

test('capture without a service is one line and exit 1', async () => {
  const outcome = await ovsBridged('capture', '--server', 'unix:/nowhere/at/all', '--tap', 'one', '-w', '-')
  assert.deepEqual([outcome.status, outcome.stdout], [1, ''])
  assert.match(outcome.stderr, /^ovs-bridged capture: [^\n]*\/nowhere\/at\/all[^\n]*\n$/)
})

for (const [args, why] of [
  [['--server', '192.0.2.1:50051'], /^a --server that is not on the loopback needs --tls-ca, /],
  [['--server', 'lab.example:50051'], /^a --server that is not on the loopback needs --tls-ca, /],
  [['--server', '127.0.0.1:50051', '--tls-ca', 'ca.crt'], /^--tls-ca, --tls-cert and --tls-key go together\n$/],
  [['--tls-ca', 'a', '--tls-cert', 'b', '--tls-key', 'c'], / are for a --server of HOST:PORT\n$/],
  [['--server', 'nowhere'], / is invalid. It is neither unix:\/PATH nor HOST:PORT.\n$/],
] as const) {
  test(`ls ${args.join(' ')} is one line and exit 2`, async () => {
    const { status, stdout, stderr } = await ovsBridged('ls', ...args)
    assert.deepEqual([status, stdout], [2, ''])
    assert.match(stderr, why)
  })
}

test('files of TLS that cannot be read are one line and exit 1', async () => {
  const files = ['--tls-ca', '/nowhere/ca', '--tls-cert', '/nowhere/crt', '--tls-key', '/nowhere/key']
  const { status, stderr } = await ovsBridged('ls', '--server', 'lab.example:50051', ...files)
  assert.equal(status, 1)
  assert.match(stderr, /^ovs-bridged ls: TLS: [^\n]*\/nowhere\/ca[^\n]*\n$/)
})

for (const command of ['check', 'ls', 'top', 'watch addresses', 'drift']) {
  test(`${command} without a service is one line and exit 1`, async () => {
    const outcome = await ovsBridged(...command.split(' '), '--server', 'unix:/nowhere/at/all')
    assert.deepEqual([outcome.status, outcome.stdout], [1, ''])
    const why = 'the service cannot be reached: connect ENOENT /nowhere/at/all'
    assert.equal(outcome.stderr, `ovs-bridged ${command}: ${why}\n`)
  })
}

test('the help of every command tells its exit codes', async () => {
  for (const command of ['serve', 'check', 'ls', 'top', 'watch', 'watch addresses', 'drift', 'capture']) {
    const { status, stdout } = await ovsBridged(...command.split(' '), '--help')
    assert.equal(status, 0)
    assert.match(stdout, /\nExit codes:\n {2}0 [^\n]+\n {2}1 [^\n]+\n {2}2 /, command)
  }
})

test('on a terminal, who waits for more than a second is told so', async context => {
  const silent = createServer()
  silent.listen(0, '127.0.0.1')
  await once(silent, 'listening')
  context.after(() => silent.close())
  const address = silent.address()
  assert(address !== null && typeof address === 'object')
  const commands = ['check', 'ls', 'top', 'watch addresses', 'drift', 'capture --list']
  const told = commands.map(async command => {
    const line = `${quoted(process.execPath, mainProgram)} ${command} --server 127.0.0.1:${address.port}`
    using terminal = openTerminal(line)
    await within(command, 30_000, terminal.says('waiting for '))
  })
  await Promise.all(told)
})

test('without the capabilities of root serving is refused in one sentence', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'main-'))
  const flags = ['--embedded', '--state-dir', directory, '--listen', `unix:${directory}/s`]
  const outcome = await run('setpriv', ['--bounding-set=-all', process.execPath, mainProgram, 'serve', ...flags])
  rmSync(directory, { recursive: true })
  const stderr = 'ovs-bridged cannot start: network devices are made by root (CAP_NET_ADMIN); start it as root\n'
  assert.deepEqual(outcome, { status: 1, stdout: '', stderr })
})
