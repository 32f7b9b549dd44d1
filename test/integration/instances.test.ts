import assert from 'node:assert/strict'
import { ofBridge } from '../support/captured.js'
import { spawnDaemon } from '../support/daemon-process.js'
import { laneTest } from '../support/lane.js'
import { deleteLink, findLink } from '../support/links.js'
import { linkNames } from '../support/namespace.js'
import { startServedTestbed } from '../support/service.js'

laneTest(
  'a daemon on another Open vSwitch leaves the devices of the first alone: one of the same instance does not start',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTap({ tap: 'one' })
    await bed.api.startCapture(ofBridge('br0'))
    // In one namespace there is room for one userspace datapath: the other is to have it.
    await bed.ovs.vswitchd.kill()
    deleteLink(findLink('ovs-netdev')?.index ?? 0)
    const before = linkNames().filter(name => name === 'one' || name.startsWith('cap-'))
    assert.equal(before.length, 2)
    const refusal =
      /cannot start: another daemon of the instance default runs on this host; give this one another --instance\n$/
    await assert.rejects(spawnDaemon('embedded'), refusal)
    bed.use(await spawnDaemon('embedded', { flags: ['--instance', 'other'] }))
    assert.deepEqual(
      linkNames().filter(name => before.includes(name)),
      before,
    )
  },
)
