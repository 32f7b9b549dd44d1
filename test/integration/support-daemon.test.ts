import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { spawnDaemon } from '../support/daemon-process.js'
import { laneTest } from '../support/lane.js'
import { enterNamespace, linkNames } from '../support/namespace.js'
import { isAlive } from '../support/process.js'

laneTest('a daemon with its own Open vSwitch serves until it is told to stop', { only: 'userspace' }, async () => {
  using _namespace = enterNamespace()
  await using daemon = await spawnDaemon('embedded')
  assert(existsSync(daemon.address.replace(/^unix:/, '')))
  assert.equal(await daemon.end('SIGTERM'), 0)
  assert(!isAlive(daemon.pid))
  assert.deepEqual(linkNames(), ['lo'])
})

laneTest('a daemon that cannot start says why', { only: 'userspace' }, async () => {
  using _namespace = enterNamespace()
  await assert.rejects(spawnDaemon('embedded', { flags: ['--datapath', 'system'] }), /exclude each other/)
})
