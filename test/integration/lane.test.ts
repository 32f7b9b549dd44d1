import assert from 'node:assert/strict'
import { access, readFile, writeFile } from 'node:fs/promises'
import { laneTest } from '../support/lane.js'

laneTest('the kernel lane has the datapath, netem and tbf', { only: 'kernel' }, async () => {
  const loaded = new Set((await readFile('/proc/modules', 'utf8')).split('\n').map(line => line.split(' ')[0]))
  for (const module of ['openvswitch', 'sch_netem', 'sch_tbf']) assert.ok(loaded.has(module), `${module} is not loaded`)
})

laneTest('a lane sees no network device of the host', {}, async () => {
  const devices = (await readFile('/proc/net/dev', 'utf8')).split('\n').slice(2, -1)
  const hardware = devices.map(line => line.split(':')[0]?.trim()).filter(name => /^(eth|en|wl)/.test(name ?? ''))
  assert.deepEqual(hardware, [])
})

laneTest('a lane has /dev/net/tun and a /run and /tmp to write to', {}, async () => {
  await access('/dev/net/tun')
  await writeFile('/run/lane-test', '')
  await writeFile('/tmp/lane-test', '')
})
