import assert from 'node:assert/strict'
import { checkOvs } from '../../src/bridge/check.js'
import type { Host } from '../../src/bridge/host.js'
import { deviceAlias } from '../../src/bridge/ownership.js'
import { type LinkName, parseLinkName } from '../../src/kernel/index.js'
import { newTally } from '../../src/metrics/index.js'
import { keepRecovered } from '../../src/recovery.js'
import { laneTest } from '../support/lane.js'
import { findLink } from '../support/links.js'
import { startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

function linkName(text: string): LinkName {
  const parsed = parseLinkName(text)
  assert(parsed.ok)
  return parsed.value
}

laneTest(
  'what a stuck ovs-vswitchd keeps from being put right is outstanding, and tried again until it is',
  { only: 'userspace', looksInside: true },
  async ({ signal }) => {
    await using bed = await startServedTestbed(signal)
    // What the daemon does by itself when ovs-vswitchd is back is not to be taken for this.
    const host: Host = { ...bed.service.daemon.host, outstanding: new Map(), recoveries: [] }
    const alias = deviceAlias(host.instance)
    const { path: netns } = bed.createContainer()
    await host.kernel.createVeth({ name: linkName('veth'), alias, netns, peerName: linkName('eth0') }, signal)
    await host.kernel.createTaps([{ name: linkName('tap'), alias, multiQueue: false }], signal)
    bed.ovs.vswitchd.stop()
    await keepRecovered(host, new Set(), newTally({ version: 'test' }), 200)
    const warnings = async () => (await checkOvs(host, { signal, caller: 'test' })).warnings
    assert.deepEqual(await warnings(), ['recovery is outstanding, and tried again: orphan_device'])
    assert(findLink('veth') !== undefined)
    bed.ovs.vswitchd.continue()
    await until('nothing is outstanding', async () => (await warnings()).length === 0)
    assert.deepEqual([findLink('veth'), findLink('tap')], [undefined, undefined])
    assert.deepEqual(
      host.recoveries.map(({ occasion, failed }) => [occasion, failed]),
      [
        ['retry', []],
        ['start', ['orphan_device']],
      ],
    )
  },
)
