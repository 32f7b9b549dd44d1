import assert from 'node:assert/strict'
import { type Tap, TapKind, TapState } from '../../src/gen/ovs/bridge/v1/tap.js'
import { laneTest } from '../support/lane.js'
import { listLinks } from '../support/links.js'
import { randomFrom } from '../support/random.js'
import { type Api, RpcError } from '../support/rpc.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'

const callerCount = 64
const tapCount = 500
/** `npm run test:all` makes it 30 s. */
const durationMs = Number(process.env['OVS_BRIDGED_TEST_STORM_S'] ?? '10') * 1_000

/** Where a tap is: a bridge, '' when it is detached, undefined when there is none. */
type Place = { readonly bridge: string; readonly vlan: number } | undefined

/** Somebody who works on taps of its own, of which it knows where they are, and on some that others work on too. */
interface Caller {
  readonly api: Api
  readonly netns: string
  readonly random: () => number
  readonly own: Map<string, Place>
  readonly shared: readonly string[]
}

const operations = ['create', 'create', 'move', 'detach', 'add', 'destroy'] as const

interface Step {
  readonly operation: (typeof operations)[number]
  readonly tap: string
  readonly bridge: string
  readonly vlan: number
}

laneTest(
  'after a storm of calls Open vSwitch, the kernel and the service agree',
  { isLong: true, timeoutMs: 300_000 },
  async context => {
    const seed = Number(process.env['OVS_BRIDGED_TEST_SEED'] ?? Date.now() % 1_000_000)
    context.diagnostic(`OVS_BRIDGED_TEST_SEED=${seed}`)
    await using bed = await startServedTestbed(context.signal)
    await bed.api.ensureBridge({ bridge: 'br1' })
    const callers = callersOf(bed, seed)
    const deadline = performance.now() + durationMs
    const done = await Promise.all(callers.map(caller => work(caller, deadline)))
    context.diagnostic(`${done.reduce((sum, count) => sum + count, 0)} calls`)
    const taps = await listAll(bed.api)
    for (const { own } of callers) for (const [tap, place] of own) assertPlaced(taps, tap, place)
    await bed.api.reapTaps()
    await assertAgreed(bed, taps)
    await assertNothingLeft(bed, taps)
  },
)

function callersOf(bed: ServedTestbed, seed: number): readonly Caller[] {
  const netns = bed.createContainer().path
  const names = Array.from({ length: tapCount }, (_, i) => `t${i}`)
  // Half of the taps have one caller each, the others any.
  const shared = names.filter((_, i) => i % 2 === 1)
  return Array.from({ length: callerCount }, (_, caller) => ({
    api: bed.api,
    netns,
    random: randomFrom(seed * callerCount + caller),
    own: new Map(
      names.filter((_, i) => i % 2 === 0 && (i / 2) % callerCount === caller).map(name => [name, undefined]),
    ),
    shared,
  }))
}

/** Makes calls until the deadline; returns how many. */
async function work(caller: Caller, deadline: number): Promise<number> {
  let count = 0
  for (; performance.now() < deadline; count++) {
    const isOwn = caller.random() < 0.6
    const step = {
      operation: pick(caller, operations),
      tap: pick(caller, isOwn ? [...caller.own.keys()] : caller.shared),
      bridge: pick(caller, ['br0', 'br1']),
      vlan: pick(caller, [0, 1, 2, 3]),
    }
    const { reason, message } = await refusalOf(perform(caller, step))
    const told = `${step.operation} ${step.tap} to ${step.bridge} VLAN ${step.vlan}: ${message}`
    if (isOwn) assert.equal(reason, expect(caller, step), told)
    else assert(contended.has(reason), told)
  }
  return count
}

/** What a call on a tap that others change too may meet. */
const contended: ReadonlySet<string> = new Set(['', 'TAP_NOT_FOUND', 'DEVICE_NOT_FOUND', 'NAME_TAKEN', 'NOT_OWNED'])

function pick<T>({ random }: Caller, items: readonly T[]): T {
  const item = items[Math.floor(random() * items.length)]
  assert(item !== undefined)
  return item
}

/** Taps that end in 0 and 5 are containers', those in 2 the host's own. */
function perform({ api, netns }: Caller, { operation, tap, bridge, vlan }: Step): Promise<unknown> {
  const index = Number(tap.slice(1))
  switch (operation) {
    case 'create':
      if (index % 5 === 0) return api.createContainerTap({ tap, bridge, vlan, netns, vethIndex: index })
      return index % 10 === 2 ? api.createHostTap({ tap, bridge, vlan }) : api.createTap({ tap, bridge, vlan })
    case 'move':
      return api.moveTap({ tap, bridge, vlan })
    case 'detach':
      return api.removeTap({ tap })
    case 'add':
      return api.addTap({ tap, bridge, vlan })
    case 'destroy':
      return api.destroyTap({ tap })
  }
}

/** Why a call was refused; empty when it was not. */
async function refusalOf(call: Promise<unknown>): Promise<{ readonly reason: string; readonly message: string }> {
  try {
    await call
    return { reason: '', message: '' }
  } catch (error) {
    if (!(error instanceof RpcError)) throw error
    return { reason: error.reason === '' ? error.code : error.reason, message: error.message }
  }
}

/** The answer that a step on a caller's own tap must get, and where the tap then is. */
function expect({ own }: Caller, { operation, tap, bridge, vlan }: Step): string {
  const place = own.get(tap)
  const become = (now: Place) => {
    own.set(tap, now)
    return ''
  }
  if (place === undefined) {
    if (operation === 'create') return become({ bridge, vlan })
    return operation === 'add' ? 'DEVICE_NOT_FOUND' : 'TAP_NOT_FOUND'
  }
  switch (operation) {
    case 'create':
      return 'NAME_TAKEN'
    case 'move':
      return become({ bridge, vlan })
    case 'detach':
      return become({ ...place, bridge: '' })
    case 'add':
      return place.bridge === '' ? become({ bridge, vlan }) : 'NAME_TAKEN'
    case 'destroy':
      own.set(tap, undefined)
      return ''
  }
}

async function listAll(api: Api): Promise<ReadonlyMap<string, Tap>> {
  const taps = new Map<string, Tap>()
  for (let pageToken = ''; ; ) {
    const page = await api.listTaps({ pageSize: 100, pageToken })
    for (const tap of page.taps) taps.set(tap.name, tap)
    pageToken = page.nextPageToken
    if (pageToken === '') return taps
  }
}

function assertPlaced(taps: ReadonlyMap<string, Tap>, name: string, place: Place): void {
  const tap = taps.get(name)
  assert.deepEqual(tap && { bridge: tap.bridge, vlan: tap.vlan }, place, name)
}

async function assertAgreed(bed: ServedTestbed, taps: ReadonlyMap<string, Tap>): Promise<void> {
  const links = new Map(listLinks().map(link => [link.name, link]))
  const interfaces = new Map((await bed.ovs.select('Interface')).map(row => [row['name'], row]))
  const ports = new Map((await bed.ovs.select('Port')).map(row => [row['name'], row]))
  const rows = new Set((await bed.ovs.select('QoS')).map(row => JSON.stringify(row['_uuid'])))
  const bridges = await bed.ovs.select('Bridge')
  const bridgeOf = (port: unknown) =>
    bridges.find(({ ports: own }) => JSON.stringify(own).includes(JSON.stringify(port)))?.['name']
  for (const [name, { state, bridge, vlan, kind, ovsError }] of taps) {
    const [port, row, link] = [ports.get(name), interfaces.get(name), links.get(name)]
    assert.equal(link !== undefined, kind !== TapKind.HOST || state === TapState.ACTIVE, `the device of ${name}`)
    if (state === TapState.DETACHED) {
      assert.equal(port, undefined, `${name} is detached and has a port`)
      continue
    }
    assert.deepEqual([state, ovsError], [TapState.ACTIVE, ''], name)
    assert.deepEqual([bridgeOf(port?.['_uuid']), port?.['tag']], [bridge, vlan], name)
    assert(rows.delete(JSON.stringify(port?.['qos'])), `${name} has no record`)
    assert(Number(row?.['ofport']) > 0, `${name} has no OpenFlow port`)
    assert.equal(row?.['ifindex'], link?.index, `another device is open under ${name}`)
  }
  const detached = [...taps.values()].filter(({ state }) => state === TapState.DETACHED)
  assert.equal(rows.size, detached.length, 'each detached tap has a record, and nothing else has one')
  const known = (name: unknown) => name === 'br0' || name === 'br1' || (typeof name === 'string' && taps.has(name))
  assert.deepEqual(
    [...ports.keys()].filter(name => !known(name)),
    [],
  )
  assert.deepEqual(
    marked().filter(name => !known(name)),
    [],
  )
}

/** The devices that bear the mark of the service. */
function marked(): readonly string[] {
  return listLinks().flatMap(({ alias, name }) => (alias.startsWith('ovs-bridged:') ? [name] : []))
}

async function assertNothingLeft(bed: ServedTestbed, taps: ReadonlyMap<string, Tap>): Promise<void> {
  const detached = [...taps.values()].filter(({ state }) => state === TapState.DETACHED)
  await Promise.all(detached.map(({ name: tap }) => bed.api.destroyTap({ tap })))
  await Promise.all(['br0', 'br1'].map(bridge => bed.api.destroyBridge({ bridge })))
  await bed.api.reapTaps()
  for (const table of ['Bridge', 'Port', 'Interface', 'QoS']) assert.deepEqual(await bed.ovs.select(table), [], table)
  assert.deepEqual(marked(), [])
  assert.deepEqual((await bed.api.listTaps({ includeDefunct: true })).taps, [])
}
