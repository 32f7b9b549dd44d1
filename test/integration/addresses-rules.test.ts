import assert from 'node:assert/strict'
import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { arp, dhcp, ndp } from '../support/address-frames.js'
import { insertPort } from '../support/foreign-port.js'
import { type FrameSocket, openPacketSocket, openTap } from '../support/frame-socket.js'
import { type HeldAddresses, holdAddresses } from '../support/held-addresses.js'
import { laneTest } from '../support/lane.js'
import { createVethPair } from '../support/links.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'
import { repeating, until } from '../support/until.js'

/** A tuntap tap with what a virtual machine has of it. */
async function plugMachine(bed: ServedTestbed, tap: string, vlan: number): Promise<FrameSocket> {
  await bed.api.createTap({ tap, vlan })
  return bed.use(openTap(tap))
}

/** Takes in all that frames sent before this have brought about. */
async function settle(held: HeldAddresses, machine: FrameSocket, tap: string, vlan: number, ip: string) {
  machine.send(arp({ source: '02:00:00:00:00:99', ip }))
  await held.learned(`${tap} ${vlan} ${ip}`)
}

const one = '02:00:00:00:00:01'
const two = '02:00:00:00:00:02'
const bonded = '02:00:00:00:00:05'

laneTest('a tap shows the newest of its addresses, and each with its VLAN', { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const held = bed.use(await holdAddresses(bed.api))
  const machine = await plugMachine(bed, 'vm', 10)
  const shown = async () => {
    const { tap } = await bed.api.getTap({ tap: 'vm' })
    return [tap?.ip4, tap?.ip6, tap?.addresses.map(({ ip, vlan }) => `${vlan} ${ip}`).join(' ')]
  }
  machine.send(arp({ source: one, ip: '10.0.0.1' }))
  await held.learned('vm 10 10.0.0.1')
  machine.send(arp({ source: one, ip: '10.0.0.2' }))
  await held.learned('vm 10 10.0.0.2')
  assert.deepEqual(await shown(), ['10.0.0.2', '', '10 10.0.0.2 10 10.0.0.1'])
  machine.send(ndp({ source: one, type: 'advertisement', from: 'fe80::1', target: '2001:db8:0:0::1', mac: two }))
  const { address } = await held.learned('vm 10 2001:db8::1', 'NDP')
  assert.equal(address?.mac, two)
  machine.send(arp({ source: one, ip: '10.0.0.3', tags: [20] }))
  await held.learned('vm 20 10.0.0.3')
  machine.send(arp({ source: one, ip: '10.0.0.1' }))
  await settle(held, machine, 'vm', 10, '10.0.0.4')
  assert.deepEqual(await shown(), [
    '10.0.0.4',
    '2001:db8::1',
    '10 10.0.0.4 10 10.0.0.1 20 10.0.0.3 10 2001:db8::1 10 10.0.0.2',
  ])
  machine.send(arp({ source: two, ip: '10.0.0.4' }))
  await held.until('the other MAC', ({ addresses }) => addresses.get('vm 10 10.0.0.4')?.address?.mac === two)
})

laneTest(
  'an address or MAC on two taps of a VLAN is a conflict, but for members of a bond',
  { looksInside: true, only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const held = bed.use(await holdAddresses(bed.api))
    const first = await plugMachine(bed, 'first', 10)
    const second = await plugMachine(bed, 'second', 10)
    const elsewhere = await plugMachine(bed, 'elsewhere', 20)
    first.send(arp({ source: one, ip: '10.0.0.1' }))
    await held.learned('first 10 10.0.0.1')
    elsewhere.send(arp({ source: one, ip: '10.0.0.1' }))
    await held.learned('elsewhere 20 10.0.0.1')
    second.send(arp({ source: two, ip: '10.0.0.1' }))
    await held.until('the address', ({ told }) => told.includes('!second 10 10.0.0.1 first'))
    second.send(arp({ source: one, ip: '10.0.0.2' }))
    await held.until('the MAC', ({ told }) => told.includes('!second 10 10.0.0.2 first'))
    assert.deepEqual(held.told, [
      'synced',
      '+first 10 10.0.0.1',
      '+elsewhere 20 10.0.0.1',
      '+second 10 10.0.0.1',
      '!second 10 10.0.0.1 first',
      '+second 10 10.0.0.2',
      '!second 10 10.0.0.2 first',
    ])
    const counts = () => {
      const { learned, conflicts } = bed.service.daemon.host.addresses.readings
      return [learned, conflicts]
    }
    assert.deepEqual(counts(), [4, 2])
    // Members of a bond are one station.
    const third = await plugMachine(bed, 'third', 10)
    const fourth = await plugMachine(bed, 'fourth', 10)
    await bed.api.addBond({ members: ['third', 'fourth'], mode: BondMode.ACTIVE_BACKUP })
    for (const member of [third, fourth, third]) member.send(arp({ source: bonded, ip: '10.0.0.5' }))
    await settle(held, fourth, 'fourth', 10, '10.0.0.6')
    assert.deepEqual(counts(), [7, 2])
  },
)

laneTest(
  'a probe for duplicates counts when nobody objects, neither another tap nor somebody beyond',
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const held = bed.use(await holdAddresses(bed.api))
    const probing = await plugMachine(bed, 'probing', 10)
    const owning = await plugMachine(bed, 'owning', 10)
    const beyond = bed.createContainer('beyond')
    createVethPair({ name: 'theirs' }, { name: 'eth0' }, beyond)
    await bed.ovs.configure(...insertPort('br0', 'theirs', { tag: 10 }))
    const far = bed.use(beyond.run(() => openPacketSocket('eth0')))
    const probe = (target: string) => ndp({ source: one, type: 'solicitation', from: '::', target })
    const objection = (target: string) => ndp({ source: two, type: 'advertisement', from: 'fe80::2', target, mac: two })
    const isProbe = (target: string) => (frame: { bytes: Buffer }) => frame.bytes.equals(probe(target))

    // A machine that stands still for a second lets an objection come too late: then once more, for another address.
    const isWithheld = async (target: string, object: () => Promise<void>) => {
      probing.send(probe(target))
      await object()
      probing.send(probe(`${target}:1`))
      await held.learned(`probing 10 ${target}:1`, 'NDP')
      return !held.addresses.has(`probing 10 ${target}`)
    }
    await someTime(attempt => {
      const target = `fd00::a:${attempt}`
      return isWithheld(target, async () => {
        await owning.receive('the probe that a tap objects to', isProbe(target))
        owning.send(objection(target))
      })
    })
    await someTime(attempt => {
      const target = `fd00::b:${attempt}`
      return isWithheld(target, async () => {
        await far.receive('the probe that somebody beyond objects to', isProbe(target))
        far.send(objection(target))
        await probing.receive('the objection', ({ bytes }) => bytes.equals(objection(target)))
      })
    })
  },
)

/** Rejects when none of three attempts succeeds. */
async function someTime(succeeds: (attempt: number) => Promise<boolean>): Promise<void> {
  for (const attempt of [1, 2, 3]) if (await succeeds(attempt)) return
  assert.fail('no attempt has succeeded')
}

laneTest("a lease is its client's address", { only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal)
  const held = bed.use(await holdAddresses(bed.api))
  const client = await plugMachine(bed, 'client', 10)
  await bed.api.createTap({ tap: 'known', vlan: 10, mac: two })
  bed.use(openTap('known'))
  const server = await plugMachine(bed, 'server', 10)
  const request = dhcp({ source: one, type: 3, transaction: 7, client: one })
  await repeating(
    () => client.send(request),
    server.receive('the request', ({ bytes }) => bytes.equals(request)),
  )
  const answer = (transaction: number, to: string, ip: string) =>
    server.send(dhcp({ source: '02:00:00:00:00:03', type: 5, transaction, client: to, ip }))
  const answers = () => {
    answer(8, one, '10.0.0.8')
    answer(7, one, '10.0.0.7')
  }
  const { address } = await repeating(answers, held.learned('client 10 10.0.0.7', 'DHCP'))
  assert.equal(address?.mac, one)
  await repeating(() => answer(9, two, '10.0.0.9'), held.learned('known 10 10.0.0.9', 'DHCP'))
  assert.deepEqual([...held.addresses.keys()].sort(), ['client 10 10.0.0.7', 'known 10 10.0.0.9'])
})

laneTest(
  'of a tap that says too much 16 addresses are kept and the rest is counted',
  { looksInside: true, only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const held = bed.use(await holdAddresses(bed.api))
    const machine = await plugMachine(bed, 'vm', 10)
    const quiet = await plugMachine(bed, 'quiet', 10)
    for (let i = 0; i < 2_000; i++) machine.send(arp({ source: one, ip: `10.0.${i >> 8}.${i & 0xff}` }))
    await settle(held, quiet, 'quiet', 10, '10.1.0.1')
    const { addresses } = bed.service.daemon.host
    await until('what was not looked at is counted', () => {
      // What was counted is told with what is heard next.
      quiet.send(arp({ source: two, ip: '10.1.0.2' }))
      return addresses.readings.framesLost > 0
    })
    const { tap } = await bed.api.getTap({ tap: 'vm' })
    assert.equal(tap?.addresses.length, 16)
    assert.ok(addresses.readings.overLimit > 0)
  },
)

laneTest('an address ages out, and goes with its tap', { looksInside: true, only: 'userspace' }, async context => {
  await using bed = await startServedTestbed(context.signal, '--address-ttl', '1s')
  const held = bed.use(await holdAddresses(bed.api))
  const machine = await plugMachine(bed, 'vm', 10)
  machine.send(arp({ source: one, ip: '10.0.0.1' }))
  await held.learned('vm 10 10.0.0.1')
  await held.until('it to age out', ({ addresses }) => addresses.size === 0)
  const { tap } = await bed.api.getTap({ tap: 'vm' })
  assert.deepEqual([tap?.ip4, tap?.addresses], ['', []])
  machine.send(arp({ source: one, ip: '10.0.0.2' }))
  await held.learned('vm 10 10.0.0.2')
  await bed.api.destroyTap({ tap: 'vm' })
  await held.until('it to go with its tap', ({ addresses }) => addresses.size === 0)
  assert.equal(bed.service.daemon.host.addresses.readings.expired, 2)
})
