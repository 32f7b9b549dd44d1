import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { laneTest } from '../support/lane.js'
import { deleteLink, findLink } from '../support/links.js'
import type { PrivateOvs } from '../support/ovs.js'
import { startServedTestbed } from '../support/service.js'
import { until } from '../support/until.js'

const callMs = { timeoutMs: 90_000 }

// The kernel gives the number of a datapath port whose device goes to the next that comes. ovs-vswitchd misses the newer of two when
// its table of them grows just then, at 128: two bridges, 60 former taps, and the 66th of the new ones.
laneTest(
  'taps work that come before ovs-vswitchd has heard that devices of another bridge are gone',
  { only: 'kernel' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.ensureBridge({ bridge: 'br1' })
    const going = requests('old', 60, 'br0')
    await bed.api.createTaps({ taps: going }, callMs)
    const created = bed.api.createTaps({ taps: requests('new', 100, 'br1') }, callMs)
    await amidAdding(bed.ovs, 'new', () => {
      for (const { tap } of going) deleteLink(findLink(tap)?.index ?? 0)
    })
    const { taps } = await created
    const interfaces = new Map((await bed.ovs.select('Interface')).map(row => [row['name'], row]))
    const numberOf = (tap: string) => Number(interfaces.get(tap)?.['ofport'])
    assert.deepEqual(
      taps.filter(({ name, ovsError }) => ovsError !== '' || !(numberOf(name) > 0)),
      [],
    )
  },
)

/** Does something while ovs-vswitchd has added some ports of a change, and others not yet. */
async function amidAdding(ovs: PrivateOvs, prefix: string, action: () => void): Promise<void> {
  const log = ovs.endpoint.replace(/^unix:(.*)db\.sock$/, '$1ovs-vswitchd.log')
  const added = () => readFileSync(log, 'utf8').split(`added interface ${prefix}`).length - 1
  await until('ovs-vswitchd adds the first', () => added() > 10, { deadlineMs: 60_000, everyMs: 1 })
  ovs.vswitchd.stop()
  action()
  ovs.vswitchd.continue()
}

function requests(prefix: string, count: number, bridge: string) {
  const names = Array.from({ length: count }, (_, i) => `${prefix}${i}`)
  return names.map(tap => ({ bridge, tap, mac: '', vlan: 0, mtu: 0, multiQueue: false }))
}
