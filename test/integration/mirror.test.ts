import assert from 'node:assert/strict'
import { type Frame, type FrameSocket, openPacketSocket, openTap, passes } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { addAddress } from '../support/links.js'
import type { Namespace } from '../support/namespace.js'
import { addForeignBridge } from '../support/ovs.js'
import { ping, pingsCease } from '../support/ping.js'
import { assertRefused, type Refusal, stateOf } from '../support/refusal.js'
import { type ServedTestbed, startServedTestbed, startService } from '../support/service.js'
import { until } from '../support/until.js'

/** A container on br0 through a tap of the service, with an address and a MAC on its `veth0`. */
async function plug(bed: ServedTestbed, tap: string, vlan: number, number: number): Promise<Namespace> {
  const container = bed.createContainer(tap)
  await bed.api.createContainerTap({ tap, vlan, mac: macOf(number), netns: container.path, vethIndex: 0 })
  container.run(() => addAddress('veth0', addressOf(number)))
  return container
}

function macOf(number: number): string {
  return `02:00:00:00:00:0${number}`
}

function addressOf(number: number): string {
  return `10.0.0.${number}/24`
}

/** Whether a frame is an IP packet between the two, on this VLAN. */
function isPacket(frame: Frame, from: number, to: number, vlan: number): boolean {
  const { etherType, source, destination } = frame
  return etherType === 0x0800 && source === macOf(from) && destination === macOf(to) && frame.vlan === vlan
}

/**
 * Pings until copies of both directions have come. One ping may not do: the datapath goes on for a moment with the flows
 * that it had before the mirror, until ovs-vswitchd has revalidated them.
 */
async function seesPings(
  copies: FrameSocket,
  pinger: Namespace,
  from: number,
  to: number,
  vlan: number,
): Promise<void> {
  const seen: Frame[] = []
  await until(`copies of pings from ${from} to ${to} on VLAN ${vlan}`, async () => {
    await ping(pinger, `10.0.0.${to}`)
    seen.push(...copies.drain())
    return seen.some(frame => isPacket(frame, from, to, vlan)) && seen.some(frame => isPacket(frame, to, from, vlan))
  })
}

laneTest('a mirror hands over both directions of a tap or the whole bridge, tagged, and ends', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api } = bed
  const red = await plug(bed, 'red', 10, 1)
  await plug(bed, 'blue', 10, 2)
  const green = await plug(bed, 'green', 20, 3)
  await plug(bed, 'lime', 20, 4)
  const span = await plug(bed, 'span', 10, 5)
  await ping(red, '10.0.0.5')
  const before = await stateOf(bed)
  const copies = bed.use(span.run(() => openPacketSocket('veth0')))

  const { mirror } = await api.createMirror({ source: 'red', destination: 'span' })
  assert.deepEqual(mirror, { bridge: 'br0', source: 'red', destination: 'span' })
  assert.deepEqual((await api.getBridge({ bridge: 'br0' })).bridge?.mirrors, ['span'])
  copies.drain()
  await seesPings(copies, red, 1, 2, 10)
  await ping(green, '10.0.0.4')
  await copies.receiveNone('a copy of what others say', frame => frame.source === macOf(3), 100)
  await pingsCease(red, '10.0.0.5')
  assert.deepEqual((await api.destroyMirror({ destination: 'span' })).mirror, mirror)
  assert.deepEqual(await stateOf(bed), before)

  await api.createMirror({ destination: 'span' })
  copies.drain()
  await seesPings(copies, red, 1, 2, 10)
  await seesPings(copies, green, 3, 4, 20)
  await api.destroyMirror({ destination: 'span' })
  await ping(red, '10.0.0.5')
  assert.deepEqual(await stateOf(bed), before)
})

laneTest("deleting a mirror's output tap removes the mirror, and so does deleting its source", {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api } = bed
  await plug(bed, 'red', 10, 1)
  await api.createTap({ tap: 'span', vlan: 7 })
  await api.createTap({ tap: 'wide' })
  await api.createMirror({ source: 'red', destination: 'span' })
  await api.createMirror({ destination: 'wide' })
  assert.deepEqual((await api.getBridge({ bridge: 'br0' })).bridge?.mirrors, ['span', 'wide'])
  await api.destroyTap({ tap: 'wide' })
  assert.deepEqual(
    (await bed.ovs.select('Mirror')).map(row => row['name']),
    ['mirror-span'],
  )
  await api.destroyTap({ tap: 'red' })
  assert.deepEqual(await bed.ovs.select('Mirror'), [])
  // Nothing copies any more, so the destination is a tap like another.
  const [port] = await bed.ovs.select('Port', [['name', '==', 'span']])
  assert.equal(port?.['tag'], 7)
  await api.createTap({ tap: 'late', vlan: 7, mac: macOf(8) })
  const from = bed.use(openTap('late'))
  const to = bed.use(openTap('span'))
  const frame = Buffer.concat([Buffer.from('ffffffffffff02000000000888b5', 'hex'), Buffer.alloc(50)])
  await passes('a frame of VLAN 7', { from, to }, frame, ({ etherType }) => etherType === 0x88b5)
})

const refusals: Readonly<Record<string, Refusal>> = {
  'a tap mirrored to itself': {
    call: api => api.createMirror({ source: 'red', destination: 'red' }),
    code: 'INVALID_ARGUMENT',
    reason: 'INVALID_FIELD',
  },
  'no destination': {
    call: api => api.createMirror({ source: 'red' }),
    code: 'INVALID_ARGUMENT',
    reason: 'INVALID_FIELD',
  },
  'an unknown source': {
    call: api => api.createMirror({ source: 'nobody', destination: 'free' }),
    code: 'NOT_FOUND',
    reason: 'TAP_NOT_FOUND',
  },
  'an unknown destination': {
    call: api => api.createMirror({ source: 'red', destination: 'nobody' }),
    code: 'NOT_FOUND',
    reason: 'TAP_NOT_FOUND',
  },
  'a destination on another bridge': {
    call: api => api.createMirror({ source: 'red', destination: 'away' }),
    code: 'NOT_FOUND',
    reason: 'TAP_NOT_FOUND',
  },
  "somebody's port": {
    call: api => api.createMirror({ bridge: 'lab', source: 'theirs', destination: 'away' }),
    code: 'NOT_FOUND',
    reason: 'TAP_NOT_FOUND',
  },
  'an occupied destination': {
    call: api => api.createMirror({ destination: 'span' }),
    code: 'ALREADY_EXISTS',
    reason: 'NAME_TAKEN',
  },
  'a destination that is a source': {
    call: api => api.createMirror({ destination: 'red' }),
    code: 'FAILED_PRECONDITION',
    reason: 'IN_MIRROR',
  },
  'a source that is a destination': {
    call: api => api.createMirror({ source: 'span', destination: 'free' }),
    code: 'FAILED_PRECONDITION',
    reason: 'IN_MIRROR',
  },
  'a mirror that is none': {
    call: api => api.destroyMirror({ destination: 'free' }),
    code: 'NOT_FOUND',
    reason: 'MIRROR_NOT_FOUND',
  },
  'moving the destination to another VLAN': {
    call: api => api.moveTap({ tap: 'span', vlan: 20 }),
    code: 'FAILED_PRECONDITION',
    reason: 'IN_MIRROR',
  },
  'moving the source to another bridge': {
    call: api => api.moveTap({ tap: 'red', bridge: 'lab' }),
    code: 'FAILED_PRECONDITION',
    reason: 'IN_MIRROR',
  },
  'detaching the source': {
    call: api => api.removeTap({ tap: 'red' }),
    code: 'FAILED_PRECONDITION',
    reason: 'IN_MIRROR',
  },
}

laneTest(
  'what is refused of mirrors leaves all as it was, and a restart or a foreign bridge keeps its own',
  {},
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api } = bed
    await addForeignBridge(bed.ovs, 'lab', [
      { name: 'theirs', type: 'internal' },
      { name: 'theirs2', type: 'internal' },
    ])
    const row = { name: 'mirror-theirs', select_all: true, output_port: await uuidOf(bed, 'theirs') }
    await bed.ovs.configure(
      { op: 'insert', table: 'Mirror', 'uuid-name': 'mirror', row },
      {
        op: 'mutate',
        table: 'Bridge',
        where: [['name', '==', 'lab']],
        mutations: [['mirrors', 'insert', ['named-uuid', 'mirror']]],
      },
    )
    const foreign = await stateOf(bed)
    await api.createTap({ tap: 'red' })
    await api.createTap({ tap: 'span' })
    await api.createTap({ tap: 'free' })
    await api.ensureBridge({ bridge: 'lab' })
    await api.createTap({ tap: 'away', bridge: 'lab' })
    await api.createMirror({ source: 'red', destination: 'span' })
    await api.createMirror({ bridge: 'lab', destination: 'away' })
    await assertRefused(bed, refusals)
    // The source may change its VLAN: its frames are copied as ever.
    await api.moveTap({ tap: 'red', vlan: 30 })

    await bed.service[Symbol.asyncDispose]()
    const { api: next } = bed.use(await startService(bed))
    assert.deepEqual((await next.getBridge({ bridge: 'lab' })).bridge?.mirrors, ['away'])
    await next.destroyBridge({ bridge: 'lab' })
    for (const tap of ['red', 'span', 'free']) await next.destroyTap({ tap })
    await next.reapTaps()
    assert.deepEqual(await stateOf(bed), foreign)
  },
)

async function uuidOf(bed: ServedTestbed, port: string): Promise<unknown> {
  const [row] = await bed.ovs.select('Port', [['name', '==', port]])
  return row?.['_uuid']
}
