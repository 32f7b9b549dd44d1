import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import { BondMode, LacpMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { type FrameSocket, openTap, passes } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { findLink } from '../support/links.js'
import { expectNoPing, ping, pingsCease } from '../support/ping.js'
import { plug } from '../support/plug.js'
import { assertRefused, invalid, type Refusal, refusalOf, stateOf } from '../support/refusal.js'
import { blankTap } from '../support/rpc.js'
import { type ServedTestbed, startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

/** A broadcast of the tests' own EtherType. */
function probe(source: number): Buffer {
  const header = `ffffffffffff${sourceOf(source).replaceAll(':', '')}88b5`
  return Buffer.concat([Buffer.from(header, 'hex'), Buffer.alloc(50)])
}

function sourceOf(source: number): string {
  return `02:00:00:00:00:${source.toString(16).padStart(2, '0')}`
}

/** A tuntap tap of the service that a program has opened, which gives it its link until the socket is disposed. */
async function openNew(bed: ServedTestbed, tap: string, vlan: number): Promise<FrameSocket> {
  await bed.api.createTap({ tap, vlan })
  return openTap(tap)
}

/** Sends probes until one comes out of a member, and gives that member's. */
async function carrier(from: FrameSocket, members: readonly FrameSocket[]): Promise<FrameSocket> {
  for (const socket of members) socket.drain()
  return await until(
    'a member of the bond carries a frame',
    () => {
      from.send(probe(1))
      return members.find(socket => socket.drain().some(isProbe))
    },
    { everyMs: 20 },
  )
}

/** Takes the link of the active member away until the other takes over within 2 s, which a busy machine may not see at once. */
async function failOver(out: FrameSocket, members: Readonly<Record<string, FrameSocket>>): Promise<FrameSocket> {
  const open = new Map(Object.entries(members))
  const tookMs: number[] = []
  for (;;) {
    const active = await carrier(out, [...open.values()])
    assert.equal((await passes('a tagged probe', { from: out, to: active }, probe(1), isProbe)).vlan, 10)
    const [name = ''] = [...open].find(([, socket]) => socket === active) ?? []
    // Nobody has the tap open any more: its link is down.
    active[Symbol.dispose]()
    open.delete(name)
    const began = performance.now()
    const next = await carrier(out, [...open.values()])
    tookMs.push(performance.now() - began)
    if ((tookMs.at(-1) ?? 0) < 2000) return next
    assert.ok(tookMs.length < 3, `failing over took ${tookMs.join(', ')} ms`)
    open.set(name, openTap(name))
  }
}

function isProbe({ etherType }: { readonly etherType: number }): boolean {
  return etherType === 0x88b5
}

laneTest('an active-backup bond carries its VLANs, and fails over within 2 s of its link going', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api } = bed
  using out = await openNew(bed, 'out', 10)
  const [m0, m1] = [await openNew(bed, 'm0', 0), await openNew(bed, 'm1', 5)]
  const { bond } = await api.addBond({ members: ['m1', 'm0'], mode: BondMode.ACTIVE_BACKUP })
  assert.deepEqual([bond?.name, bond?.members, bond?.bridge], ['bond0', ['m0', 'm1'], 'br0'])
  assert.deepEqual((await api.getBridge({ bridge: 'br0' })).bridge?.bonds, [bond])
  assert.equal((await api.getTap({ tap: 'm0' })).tap?.bond, 'bond0')

  using active = await failOver(out, { m0, m1 })
  const tagged = probe(2)
  const frame = Buffer.concat([tagged.subarray(0, 12), Buffer.from('8100000a', 'hex'), tagged.subarray(12)])
  await passes('a frame from the bond', { from: active, to: out }, frame, isProbe)

  // A restart knows the bond, and what it does to a bond is in the switch.
  await bed.service[Symbol.asyncDispose]()
  const { api: next } = bed.use(await startService(bed))
  const answer = await next.setTapQinQ({ tap: 'bond0', outerVlan: 77 })
  assert.deepEqual([answer.tap, answer.bond], [undefined, { ...bond, qinqOuterVlan: 77 }])
  const [port] = await bed.ovs.select('Port', [['name', '==', 'bond0']])
  assert.deepEqual([port?.['tag'], port?.['vlan_mode']], [77, 'dot1q-tunnel'])
  assert.deepEqual((await next.setTapQinQ({ tap: 'bond0' })).bond, bond)
})

laneTest('members of a deleted bond are on their former VLANs again', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api } = bed
  const red = await plug(bed, 'red', '10.0.0.1/24', { vlan: 10 })
  await plug(bed, 'blue', '10.0.0.2/24', { vlan: 20 })
  const peer10 = await plug(bed, 'peer10', '10.0.0.3/24', { vlan: 10 })
  const peer20 = await plug(bed, 'peer20', '10.0.0.4/24', { vlan: 20 })
  await api.createTap({ tap: 'tunnelled', vlan: 20 })
  await api.setTapQinQ({ tap: 'tunnelled', outerVlan: 100 })
  await ping(peer10, '10.0.0.1')
  const before = await stateOf(bed)
  const index = findLink('red')?.index
  const members = ['red', 'blue', 'tunnelled']
  await api.addBond({ bond: 'pair', members, mode: BondMode.BALANCE_SLB, vlan: 30 })
  await pingsCease(peer10, '10.0.0.1')
  const { bond } = await api.deleteBond({ bridge: 'br0', bond: 'pair' })
  assert.deepEqual([bond?.name, bond?.members, bond?.vlan], ['pair', ['blue', 'red', 'tunnelled'], 30])
  await ping(peer10, '10.0.0.1')
  await ping(peer20, '10.0.0.2')
  await expectNoPing(red, '10.0.0.2')
  assert.equal(findLink('red')?.index, index)
  assert.deepEqual(await stateOf(bed), before)
})

laneTest('a bond that is not there by the deadline is taken apart', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api } = bed
  const red = await plug(bed, 'red', '10.0.0.1/24', { vlan: 10 })
  await plug(bed, 'blue', '10.0.0.2/24', { vlan: 10 })
  const before = await stateOf(bed)
  bed.ovs.vswitchd.stop()
  const call = api.addBond({ members: ['red', 'blue'], mode: BondMode.ACTIVE_BACKUP }, { timeoutMs: 500 })
  assert.equal((await refusalOf('a bond without a switch', call)).code, 'DEADLINE_EXCEEDED')
  bed.ovs.vswitchd.continue()
  await ping(red, '10.0.0.2')
  await until('the bond is taken apart', async () => isDeepStrictEqual(await stateOf(bed), before))
})

laneTest('balance-slb uses both members, and balance-tcp negotiates by LACP', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api } = bed
  using out = await openNew(bed, 'out', 10)
  using m0 = await openNew(bed, 'm0', 0)
  using m1 = await openNew(bed, 'm1', 0)
  const members = ['m0', 'm1']
  const sockets = [m0, m1]

  await api.addBond({ bond: 'slb', members, mode: BondMode.BALANCE_SLB, vlan: 10 })
  const carried = sockets.map(() => new Set<string>())
  await until('both members carry probes', () => {
    for (let source = 1; source <= 32; source++) out.send(probe(source))
    for (const [i, socket] of sockets.entries()) {
      for (const frame of socket.drain().filter(isProbe)) carried[i]?.add(frame.source)
    }
    return carried.every(({ size }) => size > 0) && carried.reduce((sum, { size }) => sum + size, 0) >= 32
  })
  // From either member; a balanced bond takes broadcasts from one only.
  for (const [source, socket] of [
    [40, m0],
    [41, m1],
  ] as const) {
    const frame = probe(source)
    frame.write('020000000001', 'hex')
    await passes('a frame from a member', { from: socket, to: out }, frame, one => one.source === sourceOf(source))
  }
  await api.deleteBond({ bridge: 'br0', bond: 'slb' })

  const { bond } = await api.addBond({
    members,
    mode: BondMode.BALANCE_TCP,
    lacp: LacpMode.ACTIVE,
    lacpFallback: true,
    vlan: 10,
  })
  assert.deepEqual([bond?.mode, bond?.lacp, bond?.lacpFallback], [BondMode.BALANCE_TCP, LacpMode.ACTIVE, true])
  for (const socket of sockets) await socket.receive('a LACPDU', ({ etherType }) => etherType === 0x8809)
  // Nobody negotiates back, so it works as active-backup.
  await carrier(out, sockets)
  await api.deleteBond({ bridge: 'br0', bond: bond?.name ?? '' })
  const passive = await api.addBond({ members, mode: BondMode.BALANCE_TCP, lacp: LacpMode.PASSIVE, vlan: 10 })
  assert.deepEqual([passive.bond?.lacp, passive.bond?.lacpFallback], [LacpMode.PASSIVE, false])
  const [port] = await bed.ovs.select('Port', [['name', '==', passive.bond?.name ?? '']])
  assert.equal(port?.['lacp'], 'passive')
  // Neither negotiates nor falls back: nothing passes.
  for (const socket of sockets) socket.drain()
  out.send(probe(50))
  for (const socket of sockets) await socket.receiveNone('a probe', one => one.source === sourceOf(50), 200)
})

const mode = BondMode.ACTIVE_BACKUP

function inBond(call: Refusal['call']): Refusal {
  return { call, code: 'FAILED_PRECONDITION', reason: 'IN_BOND' }
}

const refusals: Readonly<Record<string, Refusal>> = {
  'one member': invalid(api => api.addBond({ members: ['a'], mode }), 'members'),
  'one member twice': invalid(api => api.addBond({ members: ['a', 'b', 'a'], mode }), 'members[2]'),
  'a member that is no name': invalid(api => api.addBond({ members: ['a', 'b c'], mode }), 'members[1]'),
  'no mode': invalid(api => api.addBond({ members: ['a', 'b'] }), 'mode'),
  'a mode that is none': invalid(api => api.addBond({ members: ['a', 'b'], mode: BondMode.UNRECOGNIZED }), 'mode'),
  'VLAN 4096': invalid(api => api.addBond({ members: ['a', 'b'], mode, vlan: 4096 }), 'vlan'),
  'balance-tcp without LACP': invalid(api => api.addBond({ members: ['a', 'b'], mode: BondMode.BALANCE_TCP }), 'lacp'),
  'a fallback from no LACP': invalid(
    api => api.addBond({ members: ['a', 'b'], mode, lacpFallback: true }),
    'lacp_fallback',
  ),
  'a host tap': invalid(api => api.addBond({ members: ['a', 'host'], mode }), 'members[1]'),
  'an unknown member': {
    call: api => api.addBond({ members: ['a', 'nobody'], mode }),
    code: 'NOT_FOUND',
    reason: 'TAP_NOT_FOUND',
  },
  'a member of another bridge': {
    call: api => api.addBond({ members: ['a', 'away'], mode }),
    code: 'NOT_FOUND',
    reason: 'TAP_NOT_FOUND',
  },
  'a detached member': {
    call: api => api.addBond({ members: ['a', 'loose'], mode }),
    code: 'NOT_FOUND',
    reason: 'TAP_NOT_FOUND',
  },
  'a bridge that is none': {
    call: api => api.addBond({ bridge: 'nowhere', members: ['a', 'b'], mode }),
    code: 'NOT_FOUND',
    reason: 'BRIDGE_NOT_FOUND',
  },
  'the name of a tap': {
    call: api => api.addBond({ bond: 'away', members: ['a', 'b'], mode }),
    code: 'ALREADY_EXISTS',
    reason: 'NAME_TAKEN',
  },
  'the name of a bond': {
    call: api => api.addBond({ bond: 'pair', members: ['a', 'b'], mode }),
    code: 'ALREADY_EXISTS',
    reason: 'NAME_TAKEN',
  },
  'a bond that is none': {
    call: api => api.deleteBond({ bridge: 'br0', bond: 'a' }),
    code: 'NOT_FOUND',
    reason: 'BOND_NOT_FOUND',
  },
  'a bond of another bridge': {
    call: api => api.deleteBond({ bridge: 'br1', bond: 'pair' }),
    code: 'NOT_FOUND',
    reason: 'BOND_NOT_FOUND',
  },
  'deleting a bond of no bridge in particular': invalid(api => api.deleteBond({ bond: 'pair' }), 'bridge'),
  'a member of a bond': inBond(api => api.addBond({ members: ['a', 'm0'], mode })),
  'moving a member': inBond(api => api.moveTap({ tap: 'm0', vlan: 3 })),
  'detaching a member': inBond(api => api.removeTap({ tap: 'm0' })),
  'QinQ of a member': inBond(api => api.setTapQinQ({ tap: 'm0', outerVlan: 3 })),
  'mirroring to a member': inBond(api => api.createMirror({ destination: 'm0' })),
  'mirroring a member': inBond(api => api.createMirror({ source: 'm0', destination: 'a' })),
  'an end of a mirror': {
    call: api => api.addBond({ members: ['a', 'span'], mode }),
    code: 'FAILED_PRECONDITION',
    reason: 'IN_MIRROR',
  },
}

laneTest(
  'AddBond checks its arguments before it touches a port, and a bond goes with its last member',
  {},
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api } = bed
    await api.ensureBridge({ bridge: 'br1' })
    const empty = await stateOf(bed)
    const taps = ['a', 'b', 'm0', 'm1', 'm2', 'span', 'loose'].map(tap => ({ tap }))
    await api.createTaps({ taps: taps.map(tap => ({ ...blankTap, ...tap })) })
    await api.createTap({ tap: 'away', bridge: 'br1' })
    await api.createHostTap({ tap: 'host' })
    await api.createMirror({ destination: 'span' })
    await api.removeTap({ tap: 'loose' })
    await api.addBond({ bond: 'pair', members: ['m0', 'm1', 'm2'], mode })
    await assertRefused(bed, refusals)

    const bondsNow = async () =>
      (await api.getBridge({ bridge: 'br0' })).bridge?.bonds.map(({ name, members }) => [name, ...members])
    await api.destroyTap({ tap: 'm0' })
    assert.deepEqual(await bondsNow(), [['pair', 'm1', 'm2']])
    await api.reapTaps()
    assert.deepEqual(await bondsNow(), [['pair', 'm1', 'm2']])
    assert.deepEqual([(await api.getTap({ tap: 'm1' })).tap?.ovsError], [''])
    await Promise.all([api.destroyTap({ tap: 'm1' }), api.destroyTap({ tap: 'm2' })])
    assert.deepEqual(await bondsNow(), [])
    // Its name is free at once.
    await api.addBond({ bond: 'pair', members: ['a', 'b'], mode })
    assert.deepEqual(await bondsNow(), [['pair', 'a', 'b']])
    await api.destroyBridge({ bridge: 'br0' })
    await api.destroyTap({ tap: 'away' })
    await api.destroyTap({ tap: 'loose' })
    await api.reapTaps()
    await api.ensureBridge()
    assert.deepEqual(withoutIds(await stateOf(bed)), withoutIds(empty))
  },
)

/** br0 was made anew in between, under another id and with another device. */
function withoutIds({ database }: Awaited<ReturnType<typeof stateOf>>): unknown {
  return JSON.parse(JSON.stringify(database).replace(/\["ovs-bridged:id","\w+"\]/g, '"id"'))
}
