import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import type { Part } from '../../src/bridge/commit.js'
import { BondMode } from '../../src/gen/ovs/bridge/v1/bond.js'
import { BridgeServiceService } from '../../src/gen/ovs/bridge/v1/service.js'
import { TunnelType } from '../../src/gen/ovs/bridge/v1/uplink.js'
import type { bridgeRoles } from '../../src/server/role.js'
import { spawnDaemon } from '../support/daemon-process.js'
import { messageOfText, send, targets } from '../support/hostile.js'
import { laneTest } from '../support/lane.js'
import { createVethPair } from '../support/links.js'
import { logOf } from '../support/log.js'
import { addForeignBridge, type PrivateOvs } from '../support/ovs.js'
import { type Api, blankTap, connectTo } from '../support/rpc.js'
import { startServedTestbed } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

type Roles = typeof bridgeRoles

/** The RPCs that more than a viewer's role is needed for: they change something, or show payload. */
type Audited = { [K in keyof Roles]: Roles[K] extends 'viewer' ? never : K }[keyof Roles]

interface Change {
  readonly make: (api: Api) => Promise<unknown>
  /** What its line tells of the request. */
  readonly audit: Readonly<Record<string, unknown>>
  /** Of a stream, which its reader ends. */
  readonly code?: string
  /** It changes nothing that stands in the database. */
  readonly withoutTransaction?: true
}

/** What the daemon calls this process. */
const me = `uid=${process.getuid?.()} pid=${process.pid}`

/** One call of each, in an order in which each finds what it needs. One that is added and not told here does not compile. */
const changesWith = (netns: string) =>
  ({
    ensureBridge: { make: api => api.ensureBridge({ bridge: 'lab' }), audit: { bridge: 'lab' } },
    setBridgeConfig: {
      make: api =>
        api.setBridgeConfig({ bridge: 'lab', settings: ['external_ids:password=hunter2', 'stp_enable=false'] }),
      audit: { bridge: 'lab', settings: 'external_ids:password,stp_enable' },
    },
    reserveTapName: { make: api => api.reserveTapName(), audit: {}, withoutTransaction: true },
    createTap: {
      make: api => api.createTap({ bridge: 'lab', tap: 'one', vlan: 10, mac: '02:00:00:00:00:01' }),
      audit: { bridge: 'lab', tap: 'one', mac: '02:00:00:00:00:01', vlan: 10 },
    },
    createTaps: {
      make: api => api.createTaps({ taps: ['two', 'three'].map(tap => ({ ...blankTap, bridge: 'lab', tap })) }),
      audit: { taps: 2 },
    },
    createContainerTap: {
      make: api => api.createContainerTap({ bridge: 'lab', tap: 'four', netns }),
      audit: { bridge: 'lab', tap: 'four', netns },
    },
    createHostTap: {
      make: api => api.createHostTap({ bridge: 'lab', tap: 'five' }),
      audit: { bridge: 'lab', tap: 'five' },
    },
    removeTap: { make: api => api.removeTap({ tap: 'one' }), audit: { tap: 'one' } },
    addTap: { make: api => api.addTap({ tap: 'one', bridge: 'lab' }), audit: { tap: 'one', bridge: 'lab' } },
    moveTap: { make: api => api.moveTap({ tap: 'one', vlan: 20 }), audit: { tap: 'one', vlan: 20 } },
    setTapQinQ: { make: api => api.setTapQinQ({ tap: 'one', outerVlan: 30 }), audit: { tap: 'one', outerVlan: 30 } },
    updateQos: {
      make: api => api.updateQos({ tap: 'one', qos: { rate: '10mbit' } }),
      audit: { tap: 'one', qos: { rate: '10mbit' } },
    },
    removeQos: { make: api => api.removeQos({ tap: 'one' }), audit: { tap: 'one' } },
    addBond: {
      make: api =>
        api.addBond({ bridge: 'lab', bond: 'bond', members: ['two', 'three'], mode: BondMode.ACTIVE_BACKUP }),
      audit: { bridge: 'lab', bond: 'bond', members: 'two,three', mode: BondMode.ACTIVE_BACKUP },
    },
    deleteBond: {
      make: api => api.deleteBond({ bridge: 'lab', bond: 'bond' }),
      audit: { bridge: 'lab', bond: 'bond' },
    },
    createMirror: {
      make: api => api.createMirror({ bridge: 'lab', source: 'one', destination: 'two' }),
      audit: { bridge: 'lab', source: 'one', destination: 'two' },
    },
    destroyMirror: { make: api => api.destroyMirror({ destination: 'two' }), audit: { destination: 'two' } },
    addTrunk: {
      make: api => api.addTrunk({ bridge: 'lab', interface: 'up0', vlans: [10, 20] }),
      audit: { bridge: 'lab', interface: 'up0', vlans: '10,20' },
    },
    removeTrunk: {
      make: api => api.removeTrunk({ bridge: 'lab', interface: 'up0' }),
      audit: { bridge: 'lab', interface: 'up0' },
    },
    addTunnel: {
      make: api => api.addTunnel({ bridge: 'lab', type: TunnelType.VXLAN, remoteIp: '192.0.2.1', key: '7' }),
      audit: { bridge: 'lab', type: TunnelType.VXLAN, remoteIp: '192.0.2.1', key: '7' },
    },
    removeTunnel: {
      make: api => api.removeTunnel({ bridge: 'lab', interface: 'ovsvxlan0' }),
      audit: { bridge: 'lab', interface: 'ovsvxlan0' },
    },
    createNetflow: {
      make: api => api.createNetflow({ bridge: 'lab', activeTimeout: { seconds: 5n, nanos: 0 } }),
      audit: { bridge: 'lab', activeTimeout: { seconds: 5 } },
    },
    setNetflowTimeout: {
      make: api => api.setNetflowTimeout({ bridge: 'lab', activeTimeout: { seconds: 6n, nanos: 0 } }),
      audit: { bridge: 'lab', activeTimeout: { seconds: 6 } },
    },
    addNetflowWriter: {
      make: api => api.addNetflowWriter({ bridge: 'lab', writer: 'udp:127.0.0.1:9995', gzip: true }),
      audit: { bridge: 'lab', writer: 'udp:127.0.0.1:9995', gzip: true },
    },
    removeNetflowWriter: {
      make: api => api.removeNetflowWriter({ bridge: 'lab', writer: 'udp:127.0.0.1:9995' }),
      audit: { bridge: 'lab', writer: 'udp:127.0.0.1:9995' },
    },
    destroyNetflow: { make: api => api.destroyNetflow({ bridge: 'lab' }), audit: { bridge: 'lab' } },
    startCapture: {
      make: api => api.startCapture({ target: { $case: 'bridge', value: 'lab' }, filter: 'arp' }),
      audit: { target: { bridge: 'lab' }, filter: 'arp' },
    },
    stopCapture: { make: api => api.stopCapture({ id: 1 }), audit: { id: 1 } },
    stopAllCaptures: {
      make: async api => {
        await api.startCapture({ target: { $case: 'bridge', value: 'lab' } })
        await api.stopAllCaptures()
      },
      audit: {},
    },
    streamCapture: {
      make: async api => {
        using stream = api.streamCapture({ bridge: 'lab' })
        await stream.next('the head of the stream')
      },
      audit: { bridge: 'lab' },
      code: 'CANCELLED',
    },
    destroyTap: { make: api => api.destroyTap({ tap: 'one' }), audit: { tap: 'one' } },
    reapTaps: { make: api => api.reapTaps(), audit: {} },
    destroyUnmanagedTap: { make: api => api.destroyUnmanagedTap({ tap: 'lost' }), audit: { tap: 'lost' } },
    destroyUnmanagedBridge: {
      make: api => api.destroyUnmanagedBridge({ bridge: 'theirs' }),
      audit: { bridge: 'theirs' },
    },
    destroyBridge: { make: api => api.destroyBridge({ bridge: 'lab' }), audit: { bridge: 'lab' } },
    destroyAllBridges: {
      make: async api => {
        await api.ensureBridge({ bridge: 'lab2' })
        await api.destroyAllBridges()
      },
      audit: {},
    },
  }) satisfies Record<Audited, Change>

/** ovsdb(5): a transaction stands in the file with its comment, and of ours with all who have a part in it. */
function commentsOf({ endpoint }: PrivateOvs): readonly string[] {
  const file = readFileSync(join(dirname(endpoint.slice('unix:'.length)), 'conf.db'), 'utf8')
  return Array.from(file.matchAll(/"_comment":"ovs-bridged default: ([^"]*)"/g), ([, comment = '']) => comment)
}

laneTest(
  'every change has one line in the log that says who asked for what and how it went, and names who did it in the database',
  { only: 'userspace' },
  async context => {
    await using bed = await startTestbed(context.signal)
    for (const name of ['up0', 'lost']) createVethPair({ name }, { name: 'wire' }, bed.createContainer())
    await addForeignBridge(bed.ovs, 'theirs', [{ name: 'lost' }])
    const daemon = bed.use(await spawnDaemon(bed.ovs))
    using connection = connectTo(daemon.address)
    for (const [key, change] of Object.entries<Change>(changesWith(bed.createContainer().name))) {
      const { path } = BridgeServiceService[key as Audited]
      const method = path.slice(path.lastIndexOf('/') + 1)
      await change.make(connection.api)
      const lines = await until(`the line of ${method}`, () => {
        const found = logOf(daemon.stderr()).filter(
          line => line['method'] === method && isDeepStrictEqual(line['audit'], change.audit),
        )
        return found.length > 0 && found
      })
      assert.deepEqual(
        lines.map(({ caller, code, durationMs }) => ({ caller, code, timed: typeof durationMs })),
        [{ caller: me, code: change.code ?? 'OK', timed: 'number' }],
        method,
      )
      const isNamed = () => commentsOf(bed.ovs).some(comment => comment.split(', ').includes(`${method} by ${me}`))
      if (change.withoutTransaction) assert(!isNamed(), `${method} has a transaction`)
      else await until(`the transaction of ${method}`, isNamed)
    }
    assert(!daemon.stderr().includes('hunter2'), 'a value stands in the log')
  },
)

laneTest(
  'a transaction that many callers share names them all',
  { only: 'userspace', looksInside: true },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const { committer } = bed.service.daemon.host
    const part: Part<void> = { owns: [], needs: [], reconfigures: false, write: () => () => undefined }
    const callers = Array.from({ length: 40 }, (_, i) => `CreateTap by cn=${'x'.repeat(80)}${i}`)
    const before = committer.transactions
    await Promise.all(callers.map(caller => committer.commit(part, { signal: context.signal, caller })))
    assert.equal(committer.transactions, before + 1)
    assert(commentsOf(bed.ovs).includes(callers.join(', ')))
  },
)

laneTest(
  'whatever stands in the texts of a request, its line in the log is one, short and of ASCII',
  { only: 'userspace' },
  async context => {
    await using bed = await startTestbed(context.signal)
    const daemon = bed.use(await spawnDaemon(bed.ovs))
    using connection = connectTo(daemon.address)
    const texts = ['\u001b[2J\u009b2J\u0000', '\n{"level":"fatal"}\n', '\u202eüber\u{1f600}', 'x'.repeat(20_000)]
    const all = targets().flatMap(target => texts.map(text => ({ target, message: messageOfText(target.input, text) })))
    for (const { target, message } of all) {
      const code = await send(connection.client, target, message)
      assert(!['INTERNAL', 'UNKNOWN', 'UNAVAILABLE'].includes(code), `${target.name}: ${code}`)
    }
    const lines = await until('the last line', () => {
      const found = daemon.stderr().split('\n')
      return found.filter(line => line.includes('"caller"')).length >= all.length && found
    })
    for (const line of lines) assert.match(line, /^[\x20-\x7e]{0,2000}$/)
    assert.equal(lines.filter(line => line.includes('"caller"')).length, all.length)
    assert.equal(logOf(daemon.stderr()).length, lines.filter(Boolean).length)
  },
)
