import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Captures } from '../../src/bridge/capture.js'
import { openTapFeed } from '../../src/bridge/events.js'
import type { Host } from '../../src/bridge/host.js'
import { countRecords } from '../../src/bridge/inventory.js'
import { reapTaps, runReaper } from '../../src/bridge/reap.js'
import { Stats } from '../../src/bridge/stats.js'
import { openCaptureEngine } from '../../src/capture/index.js'
import { BridgeServiceService } from '../../src/gen/ovs/bridge/v1/service.js'
import { abortScope, shuttingDown } from '../../src/lib/abort.js'
import { Disposables } from '../../src/lib/disposables.js'
import { OneAtATime } from '../../src/lib/one-at-a-time.js'
import type { SocketPath } from '../../src/lib/socket-address.js'
import { createLog } from '../../src/log/index.js'
import { Calls } from '../../src/server/call.js'
import type { CallRecord } from '../../src/server/call-log.js'
import { listen } from '../../src/server/listen.js'
import { bridgeService } from '../../src/server/service.js'
import { insertPort, removePort } from '../support/foreign-port.js'
import { openHeldSocket } from '../support/held-socket.js'
import { laneTest } from '../support/lane.js'
import { createVethPair, deleteLink, findLink, listLinks } from '../support/links.js'
import { addForeignBridge } from '../support/ovs.js'
import { setInRecord } from '../support/qos.js'
import { refusalOf, stateOf } from '../support/refusal.js'
import { connectTo } from '../support/rpc.js'
import { type ServedTestbed, startServedTestbed, startService } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

const count = 200

/** Requests for `bulk0`, `bulk1`…, on four VLANs. */
const requests = Array.from({ length: count }, (_, i) => ({
  bridge: '',
  tap: `bulk${i}`,
  mac: `02:00:00:00:00:${i.toString(16).padStart(2, '0')}`,
  vlan: i % 4,
  mtu: 0,
  multiQueue: false,
}))

/** Transactions that this daemon sent, and epochs that anybody asked of ovs-vswitchd. */
async function changesOf(bed: ServedTestbed): Promise<{ readonly sent: number; readonly epochs: number }> {
  const [root] = await bed.ovs.select('Open_vSwitch')
  return { sent: bed.service.daemon.host.committer.transactions, epochs: Number(root?.['next_cfg']) }
}

/** Has the turn of a reaping, for which others wait, until it is freed. */
function holdReapings({ reapings }: Host, signal: AbortSignal) {
  let free = () => {}
  const freed = new Promise<void>(resolve => (free = resolve))
  return { free, over: reapings.run('ports', signal, () => freed) }
}

laneTest(
  'two hundred taps are one transaction and one epoch, and all of them work',
  { timeoutMs: 120_000, looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const before = await changesOf(bed)
    const { taps } = await bed.api.createTaps({ taps: requests }, { timeoutMs: 90_000 })
    assert.deepEqual(await changesOf(bed), { sent: before.sent + 1, epochs: before.epochs + 1 })
    assert.deepEqual(
      taps.map(({ name, mac, vlan, ovsError }) => ({ name, mac, vlan, ovsError })),
      requests.map(({ tap, mac, vlan }) => ({ name: tap, mac, vlan, ovsError: '' })),
    )
    const links = new Map(listLinks().map(link => [link.name, link]))
    const rows = new Map((await bed.ovs.select('Interface')).map(row => [row['name'], row]))
    for (const { tap } of requests) {
      const row = rows.get(tap)
      assert(Number(row?.['ofport']) > 0, `${tap} has no OpenFlow port`)
      assert.equal(row?.['ifindex'], links.get(tap)?.index, `another device is open under ${tap}`)
      assert(links.get(tap)?.up, `${tap} is down`)
    }
    const { taps: listed } = await bed.api.listTaps({ bridge: 'br0' })
    assert.deepEqual(listed.map(({ name }) => name).sort(), requests.map(({ tap }) => tap).sort())
  },
)

laneTest('two hundred taps of which one is refused change nothing', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'foreign', [{ name: 'theirs', type: 'internal' }])
  createVethPair({ name: 'device' }, { name: 'eth0' }, bed.createContainer())
  await bed.api.createTap({ tap: 'ours' })
  const before = await stateOf(bed)
  for (const taken of ['ours', 'theirs', 'foreign', 'device']) {
    const refused = bed.api.createTaps({ taps: requests.with(150, { ...request(150), tap: taken }) })
    await assert.rejects(refused, { code: 'ALREADY_EXISTS', reason: 'NAME_TAKEN' })
    assert.deepEqual(await stateOf(bed), before, `${taken} left something`)
  }
  const elsewhere = bed.api.createTaps({ taps: requests.with(150, { ...request(150), bridge: 'foreign' }) })
  await assert.rejects(elsewhere, { code: 'NOT_FOUND', reason: 'BRIDGE_NOT_FOUND' })
  assert.deepEqual(await stateOf(bed), before)
})

laneTest('many taps of which one is refused by the database leave nothing', { looksInside: true }, async context => {
  await using bed = await startTestbed(context.signal)
  await addForeignBridge(bed.ovs, 'foreign', [])
  const socket = bed.use(await openHeldSocket(bed.ovs.endpoint.slice('unix:'.length)))
  const { api, daemon } = bed.use(await startService({ ...bed, ovs: { ...bed.ovs, endpoint: `unix:${socket.path}` } }))
  await api.ensureBridge()
  const { committer } = daemon.host
  const sent = committer.transactions
  socket.hold()
  const made = api.createTaps({ taps: requests.slice(0, 20) })
  const refused = assert.rejects(made, { code: 'ALREADY_EXISTS', reason: 'NAME_TAKEN' })
  await until('the transaction is on its way', () => committer.transactions > sent)
  await bed.ovs.transact(...insertPort('foreign', 'bulk7'))
  socket.release()
  await refused
  const bulk = (name: unknown) => typeof name === 'string' && name.startsWith('bulk')
  assert.deepEqual(
    listLinks()
      .map(({ name }) => name)
      .filter(bulk),
    [],
  )
  assert.deepEqual((await bed.ovs.select('Port')).map(({ name }) => name).filter(bulk), ['bulk7'])
  assert.deepEqual(await bed.ovs.select('QoS'), [])
})

laneTest('each bad field among many taps is named with the place of its tap', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const bad = [
    ...requests
      .with(17, { ...request(17), mac: 'x' })
      .with(40, { ...request(40), vlan: 4096 })
      .with(41, { ...request(41), tap: 'a b' }),
    { ...request(0), qos: { rate: '1mbit', loss: '101' } },
  ]
  assert.deepEqual(await violationsOf(bed.api.createTaps({ taps: bad })), [
    'taps[17].mac',
    'taps[40].vlan',
    'taps[41].tap',
    `taps[${count}].qos.loss`,
  ])
  const twice = requests.with(30, { ...request(30), tap: 'bulk7' })
  assert.deepEqual(await violationsOf(bed.api.createTaps({ taps: twice })), ['taps[30].tap'])
  assert.equal(findLink('bulk0'), undefined)
})

function request(index: number): (typeof requests)[number] {
  const found = requests[index]
  assert(found)
  return found
}

async function violationsOf(call: Promise<unknown>): Promise<readonly string[]> {
  const error = await refusalOf('taps', call)
  assert.deepEqual([error.code, error.reason], ['INVALID_ARGUMENT', 'INVALID_FIELD'])
  return Object.keys(error.violations)
}

laneTest(
  "a port whose QoS somebody has changed goes with its tap, and somebody's port of its name stays",
  {},
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTaps({ taps: requests.slice(0, 2) })
    await addForeignBridge(bed.ovs, 'foreign', [])
    const named = (name: string) => [['name', '==', name]]
    const [port] = await bed.ovs.select('Port', named('bulk1'))
    await bed.ovs.transact(
      { op: 'insert', table: 'QoS', 'uuid-name': 'qos', row: { type: 'linux-noop' } },
      { op: 'update', table: 'Port', where: named('bulk0'), row: { qos: ['named-uuid', 'qos'] } },
      removePort(port),
      ...insertPort('foreign', 'bulk1'),
    )
    await bed.api.destroyTap({ tap: 'bulk0' })
    await bed.api.destroyTap({ tap: 'bulk1' })
    await bed.api.reapTaps()
    assert.deepEqual(await bed.ovs.select('Port', named('bulk0')), [])
    assert.equal((await bed.ovs.select('Port', named('bulk1'))).length, 1)
    assert.equal((await bed.ovs.select('QoS')).length, 1)
  },
)

laneTest(
  'a device that cannot be removed keeps none of the other taps from going',
  { looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    await bed.api.createTaps({ taps: requests.slice(0, 3) })
    const { removals } = bed.service.daemon.host
    const error = { errno: 'EBUSY', message: 'it is held' }
    // No device of a tap's kind refuses to go, so the kernel's answer is made up.
    const remove = removals.remove.bind(removals)
    removals.remove = async targets => {
      const deletion = await remove(targets.filter(({ name }) => name !== 'bulk1'))
      return targets.length > 0 ? { ...deletion, failed: [{ name: 'bulk1', error }] } : deletion
    }
    const refused = { code: 'FAILED_PRECONDITION', reason: 'DEVICE_REFUSED' }
    await Promise.allSettled(['bulk0', 'bulk1', 'bulk2'].map(tap => bed.api.destroyTap({ tap })))
    await assert.rejects(bed.api.reapTaps(), refused)
    const left = async () => (await bed.api.listTaps({ includeDefunct: true })).taps.map(({ name }) => name)
    assert.deepEqual(await left(), ['bulk1'])
    assert.deepEqual([findLink('bulk0'), findLink('bulk2')], [undefined, undefined])
    removals.remove = remove
    assert.deepEqual((await bed.api.reapTaps()).taps, ['bulk1'])
    assert.equal(findLink('bulk1'), undefined)
  },
)

laneTest(
  "a tap whose record somebody's port refers to keeps none of the other taps from going",
  { only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const taps = requests.slice(0, 5)
    await bed.api.createTaps({ taps })
    await addForeignBridge(bed.ovs, 'foreign', [])
    const [record] = await bed.ovs.select('Port', [['name', '==', 'bulk1']])
    await bed.ovs.transact(...insertPort('foreign', 'theirs', { qos: record?.['qos'] }))
    await Promise.all(taps.map(({ tap }) => bed.api.destroyTap({ tap })))
    await assert.rejects(bed.api.reapTaps(), { code: 'ABORTED', reason: 'CONFLICT' })
    const left = async () => (await bed.api.listTaps({ includeDefunct: true })).taps.map(({ name }) => name)
    assert.deepEqual(await left(), ['bulk1'])
    await bed.ovs.transact({
      op: 'update',
      table: 'Port',
      where: [['name', '==', 'theirs']],
      row: { qos: ['set', []] },
    })
    await bed.api.reapTaps()
    assert.deepEqual(await left(), [])
    assert.deepEqual(await bed.ovs.select('QoS'), [])
  },
)

laneTest(
  'many destroyed taps are reaped in one transaction, whatever of them is gone already',
  { looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const taps = requests.slice(0, 20)
    const names = taps.map(({ tap }) => tap).sort()
    await bed.api.createTaps({ taps })
    const [lost] = await bed.ovs.select('Port', [['name', '==', 'bulk3']])
    await bed.ovs.configure(removePort(lost))
    deleteLink(findLink('bulk5')?.index ?? 0)
    // Without the service's own reaper, which comes when it likes.
    const { host } = bed.service.daemon
    const own = holdReapings(host, context.signal)
    await Promise.all(names.map(tap => bed.api.destroyTap({ tap })))
    assert.deepEqual(
      listLinks().filter(({ name }) => name.startsWith('bulk')),
      [],
    )
    const before = await changesOf(bed)
    const call = { signal: context.signal, caller: 'test' }
    assert.deepEqual(await reapTaps({ ...host, reapings: new OneAtATime() }, call), names)
    assert.deepEqual(await changesOf(bed), { sent: before.sent + 1, epochs: before.epochs + 1 })
    own.free()
    await own.over
    assert.deepEqual(await bed.ovs.select('QoS'), [])
    assert.deepEqual(
      (await bed.ovs.select('Port')).map(({ name }) => name),
      ['br0'],
    )
  },
)

laneTest(
  'taps that many callers make anew under the names of defunct ones share transactions',
  { only: 'userspace', looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { api, ovs } = bed
    const { host } = bed.service.daemon
    const taps = requests.slice(0, 20)
    await api.createTaps({ taps })
    await Promise.all(taps.map(({ tap }) => api.destroyTap({ tap })))
    ovs.vswitchd.stop()
    const before = host.committer.transactions
    const made = Promise.all(taps.map(tap => api.createTap(tap)))
    await until('all are on their way', () => host.inTheMaking.size === taps.length)
    ovs.vswitchd.continue()
    await made
    const sent = host.committer.transactions - before
    assert(sent < 10, `${sent} transactions`)
  },
)

laneTest(
  'once sixty-four devices are gone their ports go by themselves, and the others wait',
  // What a port that goes costs is the userspace datapath's, and in which groups they go is not the datapath's affair.
  { only: 'userspace', looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { host } = bed.service.daemon
    const taps = requests.slice(0, 100)
    await bed.api.createTaps({ taps })
    // The service's own reaper comes every five seconds too. It is to wait, for one that does not.
    const others = holdReapings(host, context.signal)
    using lifetime = abortScope({ parents: [context.signal] })
    const reaper = runReaper(
      { ...host, reapings: new OneAtATime(), lifetime: lifetime.signal },
      Number.POSITIVE_INFINITY,
    )
    await Promise.all(taps.map(({ tap }) => bed.api.destroyTap({ tap })))
    await until('some of them have gone', async () => (await bed.ovs.select('Port')).length - 1 < 100)
    assert.equal((await bed.ovs.select('Port')).length - 1, 36)
    lifetime.abort(shuttingDown())
    others.free()
    await Promise.all([reaper, others.over])
  },
)

laneTest(
  'reapings that take turns leave each other no half-empty groups',
  { only: 'userspace', looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { host } = bed.service.daemon
    const taps = requests.slice(0, 128)
    await bed.api.createTaps({ taps })
    // Without the service's own reaper, which comes when it likes.
    const apart: Host = { ...host, reapings: new OneAtATime() }
    const [own, others] = [holdReapings(host, context.signal), holdReapings(apart, context.signal)]
    const reapEvery = async (some: typeof taps) => {
      await Promise.all(some.map(({ tap }) => bed.api.destroyTap({ tap })))
      return { reaped: reapTaps(apart, { signal: context.signal, caller: 'test' }) }
    }
    const first = await reapEvery(taps.filter((_, i) => i % 2 === 0))
    const second = await reapEvery(taps.filter((_, i) => i % 2 === 1))
    const before = await changesOf(bed)
    others.free()
    await Promise.all([first.reaped, second.reaped])
    assert.equal((await bed.ovs.select('Port')).length, 1)
    assert.equal((await changesOf(bed)).epochs - before.epochs, 2)
    own.free()
    await Promise.all([own.over, others.over])
  },
)

laneTest(
  'a tap that is none of the defunct any more when the reaper comes to it keeps its device',
  { only: 'userspace', looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { host } = bed.service.daemon
    await bed.api.createTaps({ taps: requests.slice(0, 2) })
    const [first, second] = requests.map(({ tap }) => tap)
    assert(first !== undefined && second !== undefined)
    const others = holdReapings(host, context.signal)
    await bed.api.destroyTap({ tap: first })
    await setInRecord(bed, second, 'state', 'defunct')
    await until('both are defunct', () => host.records.defunct.size === 2)
    const reaped = reapTaps(host, { signal: context.signal, caller: 'test' })
    await setInRecord(bed, second, 'state', 'active')
    await until('one is defunct', () => host.records.defunct.size === 1)
    others.free()
    await Promise.all([others.over, reaped])
    assert(findLink(second), `${second} has no device any more`)
  },
)

laneTest(
  'calls that remove many taps have 20 ms more for each of them',
  { only: 'userspace', looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { host } = bed.service.daemon
    await using hasty = await serveHastily(host)
    await bed.api.createTaps({ taps: requests.slice(0, 50) })
    const destroyed = requests.slice(0, 25).map(({ tap }) => bed.api.destroyTap({ tap }))
    await until('half of them are defunct', () => countRecords(host, tap => tap.defunct) === 25)
    bed.ovs.ovsdbServer.stop()
    for (const method of ['reapTaps', 'destroyBridge', 'destroyAllBridges'] as const) {
      const refused = hasty.api[method]({ bridge: 'br0' }, { timeoutMs: Number.POSITIVE_INFINITY })
      await assert.rejects(refused, { code: /^(DEADLINE_EXCEEDED|UNKNOWN)$/ }, method)
    }
    bed.ovs.ovsdbServer.continue()
    await Promise.all(destroyed)
    await until('all are recorded', () => hasty.durationsMs.length === 3)
    const [reap = 0, ...destroy] = hasty.durationsMs
    assert(reap > 500 && Math.min(...destroy) > 1_000, `${hasty.durationsMs.join(', ')} ms`)
  },
)

/** The service on a socket of its own, with 50 ms for a call that says nothing of a deadline. */
async function serveHastily(host: Host) {
  const directory = mkdtempSync(join(tmpdir(), 'hasty-'))
  const durationsMs: number[] = []
  const parts = new Disposables()
  const log = createLog('silent')
  const store = { directory, quotaBytes: undefined }
  const captures = parts.use(new Captures(host, parts.use(openCaptureEngine(store)), store, 1))
  const watched = { feed: parts.use(openTapFeed(host)), stats: parts.use(new Stats(host)) }
  const onCall = ({ durationMs }: CallRecord) => durationsMs.push(durationMs)
  const calls = new Calls({ log, defaultTimeoutMs: 50, onCall })
  const door = { kind: 'unix', path: join(directory, 'api.sock') as SocketPath, role: 'admin', mode: 0o600 } as const
  parts.use(
    await listen({
      doors: [{ ...door, group: undefined }],
      register: server => server.addService(BridgeServiceService, bridgeService(host, calls, watched, captures)),
      roleOf: () => 'admin',
      calls,
      drainTimeoutMs: 0,
      log,
    }),
  )
  const { api } = parts.use(connectTo(`unix:${door.path}`))
  parts.defer(() => rmSync(directory, { recursive: true }))
  return { api, durationsMs, [Symbol.asyncDispose]: () => parts[Symbol.asyncDispose]() }
}
