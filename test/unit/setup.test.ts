import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import { command, type Ended, quoted } from '../support/command.js'

/** Shell commands before and after set-up, its arguments, and the script of package.json that it is run for. */
interface Around {
  readonly npmScript?: string
  readonly before?: string
  readonly args?: string
  readonly after?: string
}

/**
 * Runs scripts/setup where programs of the machine are replaced by shell scripts, and where what it may write outside the
 * checkout is a file system of the test's own. `before` and `after` run in the same place.
 */
async function setUp(
  context: TestContext,
  programs: Readonly<Record<string, string>>,
  { npmScript = 'start', before = 'true', args = '', after = 'true' }: Around = {},
): Promise<Ended> {
  const directory = mkdtempSync(join(tmpdir(), 'setup-'))
  context.after(() => rmSync(directory, { recursive: true }))
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(directory, name), `#!/bin/sh\n${script}\n`)
    chmodSync(join(directory, name), 0o755)
  }
  const mounts = [
    'mount -t tmpfs tmpfs /usr/sbin',
    'mount -t tmpfs tmpfs /etc',
    'mount -t tmpfs tmpfs /run',
    'mount -t tmpfs tmpfs /var/lib/dpkg/updates',
    'mkdir -p /etc/systemd/system /etc/rc2.d',
  ]
  const run = `PATH=${quoted(directory)}:$PATH npm_lifecycle_event=${npmScript} scripts/setup ${args}`
  const script = [...mounts, before, run, 'status=$?', after, 'exit $status'].join('\n')
  return await command(context.signal, 'unshare', '--mount', 'sh', '-c', script)
}

/** Debian's package database, without Open vSwitch. */
const lacking = "echo 'installed libpcap0.8'"

test('set-up without root says which line to type, before it changes anything', async context => {
  const programs = { id: 'echo 1000', 'apt-get': 'echo CALLED >&2' }
  for (const [script, line] of [
    ['start', 'npm start'],
    ['test:examples', 'npm run test:examples'],
    ['', 'scripts/setup'],
  ] as const) {
    const { status, stdout, stderr } = await setUp(context, programs, { npmScript: script })
    assert.deepEqual([status, stdout], [1, ''])
    assert.match(stderr, new RegExp(`^scripts/setup: Open vSwitch needs root; type: (sudo|su -c ').*${line}'?\\n$`))
  }
})

test('set-up names the Node.js that it needs', async context => {
  const { status, stderr } = await setUp(context, { node: 'echo v18.20.4' })
  assert.equal(status, 1)
  assert.match(stderr, /^scripts\/setup: Node\.js 20 or newer is needed, v18\.20\.4 was found; see https:\/\/\S+\n$/)
})

test('packages that cannot be had are one sentence with what to type', async context => {
  for (const failing of ['update', 'install']) {
    const apt = `case "$*" in *${failing}*) exit 100 ;; esac`
    const { status, stderr } = await setUp(
      context,
      { 'dpkg-query': lacking, 'apt-get': apt },
      { after: 'ls /usr/sbin >&2' },
    )
    assert.equal(status, 1)
    const [installing, said, ...left] = stderr.trimEnd().split('\n')
    assert.equal(installing, 'installing openvswitch-switch')
    const what = failing === 'update' ? 'the package lists could not be fetched' : 'packages are missing'
    const line = 'apt-get update && apt-get install --no-install-recommends openvswitch-switch'
    assert.equal(said, `scripts/setup: ${what}; type: ${line}`)
    assert.deepEqual(left, [], 'nothing is left of the policy')
  }
})

test('an installation that was cut off is finished before the next', async context => {
  const apt = `case "$*" in *install*) [ -z "$(ls /var/lib/dpkg/updates)" ] || { echo 'dpkg was interrupted' && exit 100; } ;; esac`
  const dpkg = 'echo "$*" && rm /var/lib/dpkg/updates/*'
  const programs = { 'dpkg-query': lacking, 'apt-get': apt, dpkg }
  const around = { before: 'touch /var/lib/dpkg/updates/0000', args: '--with-tests' }
  const { status, stderr } = await setUp(context, programs, around)
  const [, ...said] = stderr.trimEnd().split('\n')
  assert.deepEqual([status, ...said], [0, 'dpkg was interrupted', '--configure -a'])
})

test('an installation starts no service and leaves none enabled', async context => {
  // What the package does when it is installed: it asks the policy, and enables its service.
  const apt = `case "$*" in
    *install*)
      /usr/sbin/policy-rc.d && echo STARTED >&2
      mkdir -p /etc/systemd/system/multi-user.target.wants
      ln -s /lib/x /etc/systemd/system/multi-user.target.wants/openvswitch-switch.service
      ln -s ../init.d/openvswitch-switch /etc/rc2.d/S20openvswitch-switch ;;
  esac`
  const programs = { 'dpkg-query': lacking, 'apt-get': apt, 'update-rc.d': 'echo "$*" >/etc/called' }
  const after = 'cat /etc/called >&2; find /usr/sbin /etc/systemd -type f -o -type l >&2'
  const { status, stderr } = await setUp(context, programs, { args: '--with-tests', after })
  assert.equal(status, 0, stderr)
  const said = stderr.split('\n').filter(line => !line.startsWith('installing '))
  assert.deepEqual(said, ['openvswitch-switch disable', ''])
})

test('a second set-up waits for the first, and says so', async context => {
  // The first is there until the second has said something.
  const before = 'exec 8>/run/ovs-bridged-setup.lock && flock 8'
  const args = '--with-tests 8>&- 2>&1 | { read -r said && echo $said && flock -u 8 && cat; }'
  const { status, stdout } = await setUp(context, {}, { before, args })
  assert.deepEqual([status, stdout], [0, 'waiting for another set-up on this machine\n'])
})

test('a read-only checkout is what is said to be wrong when something has to be made in it', async context => {
  const before = 'mount --bind . . && cd "$PWD" && mount -o remount,bind,ro . && mount -t tmpfs tmpfs node_modules'
  const { status, stderr } = await setUp(context, { npm: 'exit 1' }, { before, args: '--with-tests' })
  assert.equal(status, 1)
  assert.equal(stderr, 'scripts/setup: node_modules is yet to be made, and this checkout is read-only\n')
})
