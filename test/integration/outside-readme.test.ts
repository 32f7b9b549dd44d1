import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { command, output } from '../support/command.js'
import { spawnDaemon } from '../support/daemon-process.js'
import { laneTest } from '../support/lane.js'
import { enterNamespace, linkNames } from '../support/namespace.js'
import { readmeFile, shellOf } from '../support/readme.js'

laneTest('the quick start of README.md does what it says', { only: 'userspace', timeoutMs: 85_000 }, async context => {
  const script = shellOf(readFileSync(readmeFile, 'utf8'), 'Quick start')
  assert(script.startsWith('npm start\n'))
  // The first `ip netns` covers /run/netns with a mount, and with it the namespaces that are mounted there by then.
  await output(context.signal, 'ip', 'netns', 'add', 'readme')
  await output(context.signal, 'ip', 'netns', 'delete', 'readme')
  using _namespace = enterNamespace()
  // Where `npm start` listens; this lane's /run is its own.
  const socket = '/run/ovs-bridged/ovs-bridged.sock'
  assert(!existsSync(socket))
  await using daemon = await spawnDaemon('embedded', { flags: ['--listen', `unix:${socket}`] })
  const { status, stdout, stderr } = await command(context.signal, 'bash', '-ec', script.replace('npm start\n', ''))
  assert.equal(status, 0, `${stdout}${stderr}`)
  assert.match(stdout, /"name": "tap0"/)
  assert.match(stdout, / 0% packet loss/)
  assert.equal(await daemon.end('SIGTERM'), 0)
  assert.deepEqual(linkNames(), ['lo'])
})
