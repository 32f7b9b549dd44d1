import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { type Flow, NetflowFormat } from '../../src/gen/ovs/bridge/v1/netflow.js'
import { output as outputOf } from '../support/command.js'
import { spawnDaemon } from '../support/daemon-process.js'
import { laneTest } from '../support/lane.js'
import type { Namespace } from '../support/namespace.js'
import { captureDirectory, flowsUntil, seconds } from '../support/netflow.js'
import { addForeignBridge } from '../support/ovs.js'
import { openPinger, ping } from '../support/ping.js'
import { plug } from '../support/plug.js'
import { refusalOf, stateOf } from '../support/refusal.js'
import { type Api, connectTo } from '../support/rpc.js'
import { startServedTestbed, startService } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

const userspace = { only: 'userspace' } as const

/** ICMP echo requests from 10.0.0.1. */
function isEcho(flow: Flow): boolean {
  return flow.source === '10.0.0.1' && flow.protocol === 1 && flow.destinationPort === 8 * 256
}

/** Seconds between the ends, after `since`, of what was told of red's pings one after the other. */
function gapsOf(flows: readonly Flow[], since = 0): number[] {
  const ends = flows
    .filter(isEcho)
    .map(({ endTime }) => Number(endTime?.seconds) + (endTime?.nanos ?? 0) / 1e9)
    .filter(end => end > since)
  return ends.slice(1).map((end, i) => end - (ends[i] ?? 0))
}

/** Pings five times a second until disposed. */
function keepPinging(from: Namespace, address: string): Disposable {
  const pinger = openPinger(from, address)
  const timer = setInterval(() => void pinger.once(address, 100), 200)
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer)
      pinger[Symbol.dispose]()
    },
  }
}

const long = { isLong: true } as const

laneTest('a kill costs no collector, target or writer; flows are told as often as is asked', long, async context => {
  using captures = captureDirectory()
  const at = (name: string) => join(captures.path, name)
  await using bed = await startTestbed(context.signal)
  const first = bed.use(await spawnDaemon(bed.ovs, { flags: ['--default-bridge', 'br0', ...captures.flags] }))
  const { api } = bed.use(connectTo(first.address))
  await api.ensureBridge()
  const red = await plug({ ...bed, api }, 'red', '10.0.0.1/24')
  await plug({ ...bed, api }, 'blue', '10.0.0.2/24')
  const { netflow: created } = await api.createNetflow({ endWithLastWriter: true })
  assert.deepEqual(created?.activeTimeout, seconds(10))
  assert.equal((await bed.ovs.select('NetFlow'))[0]?.['active_timeout'], 10)
  await api.addNetflowWriter({ writer: 'file:flows.txt', format: NetflowFormat.ASCII })
  await api.addNetflowWriter({ writer: 'file:replaced' })
  await api.addNetflowWriter({ writer: 'udp:127.0.0.1:9', gzip: true })
  const { netflow: before } = await api.setNetflowTimeout({ bridge: 'br0', activeTimeout: seconds(1) })
  using _pings = keepPinging(red, '10.0.0.2')
  const file = () => readFileSync(at('flows.txt'), 'utf8')
  await until('it is in the file', () => /\t10\.0\.0\.1:0\t/.test(file()), { deadlineMs: 40_000 })
  await first.end('SIGKILL')
  const written = file()
  rmSync(at('replaced'))
  writeFileSync(at('replaced'), 'theirs')

  const { api: next } = bed.use(await startService(bed, ...captures.flags))
  const { netflow: after } = await next.getNetflow({ bridge: 'br0' })
  const settings = (netflow: typeof after) => [
    netflow?.activeTimeout,
    netflow?.endWithLastWriter,
    netflow?.writers.map(({ name, format, gzip }) => [name, format, gzip]),
  ]
  assert.deepEqual(settings(after), settings(before))
  assert.notEqual(after?.collector, before?.collector)
  assert.deepEqual((await bed.ovs.select('NetFlow'))[0]?.['targets'], after?.collector)
  using stream = next.watchFlows({ bridge: 'br0' })
  await stream.next('the subscription')
  const isShort = (gap: number) => gap < 3
  const flows = await flowsUntil(stream, 'once a second', all => gapsOf(all).filter(isShort).length >= 3)
  assert.equal(flows.find(isEcho)?.input, 'red')
  await until('the file goes on', () => file().length > written.length)
  assert.ok(file().startsWith(written))
  const { netflow: writing } = await next.getNetflow({ bridge: 'br0' })
  const problems = writing?.writers.filter(({ name }) => name.startsWith('file:')).map(({ problem }) => problem)
  assert.deepEqual(problems, ['', 'another file is in its place'])
  assert.equal(readFileSync(at('replaced'), 'utf8'), 'theirs')

  const { netflow: slower } = await next.setNetflowTimeout({ bridge: 'br0', activeTimeout: seconds(5) })
  assert.deepEqual(slower?.activeTimeout, seconds(5))
  // What has gathered in the stream meanwhile was told before.
  const changedAt = Date.now() / 1e3
  const gaps = (more: readonly Flow[]) => gapsOf(more, changedAt)
  const later = await flowsUntil(stream, 'every five', all => gaps(all).some(gap => gap > 4 && gap < 8))
  // One or two were on their way.
  const short = gaps(later).filter(isShort).length
  assert.ok(short <= 2, `${short} short ones`)

  for (const writer of ['udp:127.0.0.1:9', 'file:replaced']) {
    assert.equal((await next.removeNetflowWriter({ bridge: 'br0', writer })).ended, false)
  }
  assert.equal((await next.removeNetflowWriter({ bridge: 'br0', writer: 'file:flows.txt' })).ended, true)
  assert.deepEqual(await bed.ovs.select('NetFlow'), [])
  assert.equal((await refusalOf('a NetFlow that has ended', next.getNetflow({ bridge: 'br0' }))).reason, 'NO_NETFLOW')
})

laneTest('where a flow goes out is told as far as Open vSwitch tells it', userspace, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api, ovs } = bed
  const red = await plug(bed, 'red', '10.0.0.1/24')
  for (const [tap, address] of [
    ['blue', '10.0.0.2/24'],
    ['green', '10.0.0.3/24'],
  ] as const) {
    await plug(bed, tap, address)
  }
  await ping(red, '10.0.0.2')
  await api.createNetflow({ activeTimeout: seconds(1) })
  const manage = join(dirname(ovs.endpoint.slice('unix:'.length)), 'br0.mgmt')
  using stream = api.watchFlows({ bridge: 'br0' })
  await stream.next('the subscription')
  using _pings = keepPinging(red, '10.0.0.2')
  for (const [actions, output] of [
    ['normal', 'blue'],
    ['flood', ''],
    ['output:blue,output:green', 'br0'],
  ] as const) {
    await outputOf(
      context.signal,
      'ovs-ofctl',
      'add-flow',
      `unix:${manage}`,
      `priority=1,in_port=red,icmp,actions=${actions}`,
    )
    const isSo = (flow: Flow) => isEcho(flow) && flow.input === 'red' && flow.output === output
    await flowsUntil(stream, `${actions} is told as ${output || 'nothing'}`, all => all.some(isSo))
  }
})

laneTest('a NetFlow goes with its bridge, and a bridge that stays is as it was', userspace, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api, ovs } = bed
  await addForeignBridge(ovs, 'lab', [])
  await addForeignBridge(ovs, 'theirs', [])
  await ovs.configure(
    { op: 'insert', table: 'NetFlow', 'uuid-name': 'flows', row: { targets: '127.0.0.1:9' } },
    { op: 'update', table: 'Bridge', where: [['name', '==', 'theirs']], row: { netflow: ['named-uuid', 'flows'] } },
  )
  const before = await stateOf(bed)
  await api.ensureBridge({ bridge: 'lab' })
  await api.ensureBridge({ bridge: 'theirs' })
  await api.ensureBridge({ bridge: 'gone' })
  const refusal = await refusalOf("somebody else's", api.createNetflow({ bridge: 'theirs' }))
  assert.deepEqual([refusal.code, refusal.reason], ['ALREADY_EXISTS', 'NETFLOW_EXISTS'])
  for (const bridge of ['lab', 'gone', 'br0']) await api.createNetflow({ bridge })
  const engines = (await ovs.select('NetFlow')).map(row => `${String(row['engine_type'])} ${String(row['engine_id'])}`)
  assert.equal(new Set(engines).size, 4)
  for (const bridge of ['lab', 'gone', 'theirs']) await api.destroyBridge({ bridge })
  // Somebody takes the last away.
  await ovs.configure({ op: 'update', table: 'Bridge', where: [['name', '==', 'br0']], row: { netflow: ['set', []] } })
  await until('it is noticed', async () => {
    const { reason } = await refusalOf('a NetFlow that is gone', api.getNetflow({ bridge: 'br0' }))
    return reason === 'NO_NETFLOW'
  })
  assert.deepEqual(await stateOf(bed), before)
})

laneTest('the flow of a tap that is destroyed is told with its name', userspace, async context => {
  await using bed = await startServedTestbed(context.signal)
  const { api } = bed
  const red = await plug(bed, 'red', '10.0.0.1/24')
  await plug(bed, 'blue', '10.0.0.2/24')
  using stream = api.watchFlows({ bridge: 'br0' })
  await stream.next('the subscription')
  await api.createNetflow({ activeTimeout: seconds(2) })
  await ping(red, '10.0.0.2')
  await api.destroyTap({ tap: 'red' })
  await api.reapTaps()
  const flows = await flowsUntil(stream, 'the ping', all => all.some(isEcho))
  assert.deepEqual(new Set(flows.filter(isEcho).map(flow => `${flow.input} ${flow.output}`)), new Set(['red blue']))
})

interface Refusal {
  readonly call: (api: Api) => Promise<unknown>
  readonly code: string
  readonly reason: string
}

const noNetflow = { code: 'NOT_FOUND', reason: 'NO_NETFLOW' }
const invalid = { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' }
const fileRefused = { code: 'FAILED_PRECONDITION', reason: 'FILE_REFUSED' }

const refusals: Readonly<Record<string, Refusal>> = {
  'to get none': { call: api => api.getNetflow({ bridge: 'bare' }), ...noNetflow },
  'to set the timeout of none': {
    call: api => api.setNetflowTimeout({ bridge: 'bare', activeTimeout: seconds(5) }),
    ...noNetflow,
  },
  'to destroy none': { call: api => api.destroyNetflow({ bridge: 'bare' }), ...noNetflow },
  'a writer of none': { call: api => api.addNetflowWriter({ bridge: 'bare', writer: 'file:a' }), ...noNetflow },
  'to remove a writer of none': {
    call: api => api.removeNetflowWriter({ bridge: 'bare', writer: 'file:a' }),
    ...noNetflow,
  },
  'an unknown bridge': {
    call: api => api.createNetflow({ bridge: 'nowhere' }),
    code: 'NOT_FOUND',
    reason: 'BRIDGE_NOT_FOUND',
  },
  'a second one': { call: api => api.createNetflow(), code: 'ALREADY_EXISTS', reason: 'NETFLOW_EXISTS' },
  'to destroy that of no bridge': { call: api => api.destroyNetflow(), ...invalid },
  'a timeout of 0': { call: api => api.createNetflow({ bridge: 'bare', activeTimeout: seconds(0) }), ...invalid },
  'a timeout of two days': { call: api => api.setNetflowTimeout({ activeTimeout: seconds(172_800) }), ...invalid },
  'a timeout of half a second': {
    call: api => api.setNetflowTimeout({ activeTimeout: { seconds: 0n, nanos: 500_000_000 } }),
    ...invalid,
  },
  'no timeout': { call: api => api.setNetflowTimeout(), ...invalid },
  'an absolute path': { call: api => api.addNetflowWriter({ writer: 'file:/tmp/flows' }), ...invalid },
  'a path that leads up': { call: api => api.addNetflowWriter({ writer: 'file:../flows' }), ...invalid },
  'an unknown kind of writer': { call: api => api.addNetflowWriter({ writer: 'ftp:host:1' }), ...invalid },
  'a folder that is a link': { call: api => api.addNetflowWriter({ writer: 'file:away/flows' }), ...fileRefused },
  'a folder that is not there': { call: api => api.addNetflowWriter({ writer: 'file:nowhere/flows' }), ...fileRefused },
  'a file that is there': {
    call: api => api.addNetflowWriter({ writer: 'file:theirs' }),
    code: 'ALREADY_EXISTS',
    reason: 'FILE_EXISTS',
  },
  'a link': {
    call: api => api.addNetflowWriter({ writer: 'file:link' }),
    code: 'ALREADY_EXISTS',
    reason: 'FILE_EXISTS',
  },
  'a writer of a name that is taken': {
    call: api => api.addNetflowWriter({ writer: 'file:ours' }),
    code: 'ALREADY_EXISTS',
    reason: 'WRITER_EXISTS',
  },
  'to remove a writer that is none': {
    call: api => api.removeNetflowWriter({ bridge: 'br0', writer: 'file:theirs' }),
    code: 'NOT_FOUND',
    reason: 'WRITER_NOT_FOUND',
  },
}

laneTest('what is refused of NetFlow leaves all as it was', userspace, async context => {
  using captures = captureDirectory()
  using elsewhere = captureDirectory()
  await using bed = await startServedTestbed(context.signal, ...captures.flags)
  const { api } = bed
  await api.ensureBridge({ bridge: 'bare' })
  await api.createNetflow()
  await api.addNetflowWriter({ writer: 'file:ours' })
  const at = (name: string) => join(captures.path, name)
  writeFileSync(at('theirs'), 'theirs')
  mkdirSync(at('folder'))
  symlinkSync(elsewhere.path, at('away'))
  symlinkSync(join(elsewhere.path, 'nothing'), at('link'))
  const before = await stateOf(bed)
  const files = readdirSync(captures.path, { recursive: true })
  for (const [what, { call, code, reason }] of Object.entries(refusals)) {
    const error = await refusalOf(what, call(api))
    assert.deepEqual([error.code, error.reason], [code, reason], `${what}: ${error.message}`)
    assert.deepEqual(await stateOf(bed), before, `${what} left something`)
    assert.deepEqual(readdirSync(captures.path, { recursive: true }), files, `${what} left a file`)
  }
  assert.equal(readFileSync(at('theirs'), 'utf8'), 'theirs')
})

laneTest('a call that does not come to its end leaves neither NetFlow nor file', userspace, async context => {
  using captures = captureDirectory()
  await using bed = await startServedTestbed(context.signal, ...captures.flags)
  const { api, ovs } = bed
  const before = await stateOf(bed)
  ovs.vswitchd.stop()
  const create = api.createNetflow({}, { timeoutMs: 500 })
  assert.equal((await refusalOf('a switch that does not answer', create)).code, 'DEADLINE_EXCEEDED')
  await until('it is taken back', async () => (await ovs.select('NetFlow')).length === 0)
  ovs.vswitchd.continue()
  await until('the switch is as it was', async () => isDeepStrictEqual(await stateOf(bed), before))

  await api.createNetflow()
  ovs.ovsdbServer.stop()
  const add = refusalOf('a database that dies', api.addNetflowWriter({ writer: 'file:late' }, { timeoutMs: 2_000 }))
  await until('the file is made', () => readdirSync(captures.path).length === 1)
  assert.equal((await add).code, 'DEADLINE_EXCEEDED')
  await ovs.ovsdbServer.restart()
  await until('it is taken back', () => readdirSync(captures.path).length === 0)
  assert.deepEqual((await api.getNetflow({ bridge: 'br0' })).netflow?.writers, [])
  await until('it can be made now', async () => await api.addNetflowWriter({ writer: 'file:late' }))
})
