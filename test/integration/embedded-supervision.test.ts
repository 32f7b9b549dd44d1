import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { EmbeddedError, type EmbeddedEvent, type EmbeddedOvs, startEmbedded } from '../../src/embedded/index.js'
import { callJsonRpc, isRecord } from '../../src/lib/json-rpc.js'
import { laneTest } from '../support/lane.js'
import { addAddress, deleteLink, findLink, listLinks } from '../support/links.js'
import { enterNamespace, linkNames } from '../support/namespace.js'
import { isAlive } from '../support/process.js'
import { until } from '../support/until.js'

// The private Open vSwitch has the userspace datapath only; a kernel with another one shows nothing more.
const userspace = { only: 'userspace' } as const

interface Bench extends AsyncDisposable {
  readonly directory: string
  readonly events: EmbeddedEvent[]
  /** Starts one more in the directory; the bench disposes it. */
  start(): Promise<EmbeddedOvs>
}

/** A namespace and a directory of the test's own. */
function bench(context: TestContext): Bench {
  const namespace = enterNamespace()
  const directory = mkdtempSync(join(tmpdir(), 'embedded-'))
  const events: EmbeddedEvent[] = []
  const started: EmbeddedOvs[] = []
  return {
    directory,
    events,
    start: async () => {
      const ovs = await startEmbedded({
        directory,
        signal: context.signal,
        onEvent: event => events.push(event),
        removeLinks: async names => removeTuns(names),
      })
      started.push(ovs)
      return ovs
    },
    [Symbol.asyncDispose]: async () => {
      for (const ovs of started) await ovs[Symbol.asyncDispose]()
      namespace[Symbol.dispose]()
      rmSync(directory, { recursive: true })
    },
  }
}

function removeTuns(names: readonly string[]): string[] {
  const doomed = listLinks().filter(link => link.kind === 'tun' && link.alias === '' && names.includes(link.name))
  for (const link of doomed) deleteLink(link.index)
  return doomed.map(link => link.name)
}

function call(ovs: EmbeddedOvs, ...operations: readonly unknown[]): Promise<unknown> {
  const path = ovs.endpoint.replace(/^unix:/, '')
  return callJsonRpc(path, 'transact', ['Open_vSwitch', ...operations], AbortSignal.timeout(5000))
}

/** A bridge `br0` with a host tap `host0`, as far as the database goes. */
function addBridge(ovs: EmbeddedOvs): Promise<unknown> {
  const port = (name: string) => [
    { op: 'insert', table: 'Interface', 'uuid-name': `i_${name}`, row: { name, type: 'internal' } },
    { op: 'insert', table: 'Port', 'uuid-name': `p_${name}`, row: { name, interfaces: ['named-uuid', `i_${name}`] } },
  ]
  const ports = [
    'set',
    [
      ['named-uuid', 'p_br0'],
      ['named-uuid', 'p_host0'],
    ],
  ]
  return call(
    ovs,
    ...port('br0'),
    ...port('host0'),
    { op: 'insert', table: 'Bridge', 'uuid-name': 'b', row: { name: 'br0', datapath_type: 'netdev', ports } },
    mutateRoot([
      ['bridges', 'insert', ['named-uuid', 'b']],
      ['next_cfg', '+=', 1],
    ]),
  )
}

/** Waits until ovs-vswitchd is done with `host0`: one that is killed amid its making leaves none behind. */
async function applied(ovs: EmbeddedOvs): Promise<void> {
  const asked = { op: 'select', table: 'Open_vSwitch', where: [], columns: ['cur_cfg', 'next_cfg'] }
  await until('host0 is there', async () => {
    const row = JSON.stringify(await call(ovs, asked))
    return /"cur_cfg":(\d+)/.exec(row)?.[1] === /"next_cfg":(\d+)/.exec(row)?.[1]
  })
  assert(findLink('host0') !== undefined)
}

function mutateRoot(mutations: readonly unknown[]): unknown {
  return { op: 'mutate', table: 'Open_vSwitch', where: [], mutations }
}

function pidOf(ovs: EmbeddedOvs, process: 'ovsdbServer' | 'vswitchd'): number {
  const status = ovs.status[process]
  assert(status.state === 'running', `${process} is ${status.state}`)
  return status.pid
}

async function killed(pid: number): Promise<void> {
  process.kill(pid, 'SIGKILL')
  await until(`process ${pid} ends`, () => !isAlive(pid))
}

laneTest('a private Open vSwitch serves its database with TSO asked for', userspace, async context => {
  await using at = bench(context)
  const ovs = await at.start()
  const select = { op: 'select', table: 'Open_vSwitch', where: [], columns: ['other_config', 'ovs_version'] }
  const row = { other_config: ['map', [['userspace-tso-enable', 'true']]], ovs_version: ovs.versions.openVswitch }
  assert.deepEqual(await call(ovs, select), [{ rows: [row] }])
  assert.match(ovs.versions.openVswitch, /^\d+\.\d+\.\d+/)
})

laneTest(
  'a bridge gets its devices, and stopping takes processes, sockets and devices away',
  userspace,
  async context => {
    await using at = bench(context)
    const ovs = await at.start()
    const pids = [pidOf(ovs, 'ovsdbServer'), pidOf(ovs, 'vswitchd')]
    await addBridge(ovs)
    await applied(ovs)
    await ovs[Symbol.asyncDispose]()
    assert.deepEqual(linkNames(), ['lo'])
    assert.deepEqual(pids.filter(isAlive), [])
    const kept = readdirSync(at.directory)
      .filter(name => !name.endsWith('.log'))
      .sort()
    assert.deepEqual(kept, ['.conf.db.~lock~', 'conf.db'])
  },
)

laneTest('a second start finds the bridges of the first', userspace, async context => {
  await using at = bench(context)
  const first = await at.start()
  await addBridge(first)
  await first[Symbol.asyncDispose]()
  await at.start()
  assert.deepEqual(linkNames(), ['br0', 'host0', 'lo', 'ovs-netdev'])
})

laneTest('a killed ovs-vswitchd comes back and a host tap keeps its address', userspace, async context => {
  await using at = bench(context)
  const ovs = await at.start()
  await addBridge(ovs)
  await applied(ovs)
  addAddress('host0', '10.1.2.3/24')
  const index = findLink('host0')?.index
  const pid = pidOf(ovs, 'vswitchd')
  await killed(pid)
  await until('ovs-vswitchd runs again', () => at.events.some(event => event.kind === 'restarted'))
  assert.notEqual(pidOf(ovs, 'vswitchd'), pid)
  assert.equal(findLink('host0')?.index, index)
  assert(at.events.some(event => event.kind === 'died' && event.pid === pid))
})

laneTest('a host tap deleted while ovs-vswitchd was dead does not stay behind', userspace, async context => {
  await using at = bench(context)
  const ovs = await at.start()
  await addBridge(ovs)
  await applied(ovs)
  await killed(pidOf(ovs, 'vswitchd'))
  await call(ovs, mutateRoot([['bridges', 'delete', ['set', await bridges(ovs)]]]))
  await until('ovs-vswitchd runs again', () => at.events.some(event => event.kind === 'restarted'))
  assert.deepEqual(linkNames(), ['lo'])
  const cleaned = at.events.flatMap(event => (event.kind === 'cleaned' ? event.links : []))
  assert.deepEqual([...cleaned].sort(), ['br0', 'host0', 'ovs-netdev'])
})

async function bridges(ovs: EmbeddedOvs): Promise<unknown[]> {
  const reply = JSON.stringify(await call(ovs, { op: 'select', table: 'Bridge', where: [], columns: ['_uuid'] }))
  return Array.from(reply.matchAll(/"uuid","([^"]+)"/g), match => ['uuid', match[1]])
}

laneTest('a killed ovsdb-server comes back with its rows', userspace, async context => {
  await using at = bench(context)
  const ovs = await at.start()
  await addBridge(ovs)
  await killed(pidOf(ovs, 'ovsdbServer'))
  await until('ovsdb-server runs again', () => at.events.some(event => event.kind === 'restarted'))
  assert.equal((await bridges(ovs)).length, 1)
})

laneTest('stopping takes the devices away also when ovs-vswitchd is dead or stopped', userspace, async context => {
  await using at = bench(context)
  const ovs = await at.start()
  await addBridge(ovs)
  await applied(ovs)
  process.kill(pidOf(ovs, 'vswitchd'), 'SIGKILL')
  await ovs[Symbol.asyncDispose]()
  assert.deepEqual(linkNames(), ['lo'])

  const again = await at.start()
  process.kill(pidOf(again, 'vswitchd'), 'SIGSTOP')
  await again[Symbol.asyncDispose]()
  assert.deepEqual(linkNames(), ['lo'])
})

laneTest('a directory in use is refused with the pid of its user', userspace, async context => {
  await using at = bench(context)
  await at.start()
  await assert.rejects(at.start(), (error: unknown) => {
    assert(error instanceof EmbeddedError)
    assert.deepEqual(error.problem, { kind: 'in-use', directory: at.directory, pid: process.pid })
    return true
  })
})

laneTest('the claim of a dead daemon counts for nothing', userspace, async context => {
  await using at = bench(context)
  writeFileSync(join(at.directory, 'daemon.pid'), `${process.pid} another-boot 1\n`)
  await at.start()
  assert(readFileSync(join(at.directory, 'daemon.pid'), 'utf8').startsWith(`${process.pid} `))
})

laneTest('both processes die with a killed daemon, and the next start works', userspace, async context => {
  await using at = bench(context)
  const script = fileURLToPath(new URL('../support/hold-embedded.js', import.meta.url))
  const daemon = spawn(process.execPath, [script, at.directory], { stdio: ['ignore', 'pipe', 'inherit'] })
  context.after(() => daemon.kill('SIGKILL'))
  const said: readonly unknown[] = await once(daemon.stdout, 'data', { signal: context.signal })
  const pids = Array.from(String(said[0]).matchAll(/"pid":(\d+)/g), match => Number(match[1]))
  assert.equal(pids.length, 2)
  daemon.kill('SIGKILL')
  await until('both have died', () => !pids.some(isAlive))
  await at.start()
})

laneTest("a datapath that somebody else's ovs-vswitchd holds is refused with its pid", userspace, async context => {
  await using at = bench(context)
  const holder = await at.start()
  await addBridge(holder)
  await until('the datapath is there', () => findLink('ovs-netdev'))
  const other = mkdtempSync(join(tmpdir(), 'embedded-'))
  context.after(() => rmSync(other, { recursive: true }))
  const options = { directory: other, signal: context.signal, onEvent: () => {}, removeLinks: async () => [] }
  await assert.rejects(startEmbedded(options), (error: unknown) => {
    assert(error instanceof EmbeddedError)
    assert.deepEqual(error.problem, { kind: 'datapath-held', pid: pidOf(holder, 'vswitchd') })
    return true
  })
  assert.deepEqual(readdirSync(other), [])
})

laneTest('a damaged database fails in one sentence with what ovsdb-server said', userspace, async context => {
  await using at = bench(context)
  writeFileSync(join(at.directory, 'conf.db'), 'no database\n')
  await assert.rejects(at.start(), /^EmbeddedError: ovsdb-server ended at once with status 1: .*conf\.db/)
  assert.deepEqual(linkNames(), ['lo'])
})

laneTest('a database of an older schema is converted with its rows', userspace, async context => {
  await using at = bench(context)
  const text = readFileSync('/usr/share/openvswitch/vswitch.ovsschema', 'utf8')
  const older = JSON.stringify(
    JSON.parse(text.replace(/"version": "[^"]+"/, '"version": "1.0.0"').replaceAll('"dpdk_version"', '"once"')),
  )
  const rows = JSON.stringify({ Open_vSwitch: { [randomUUID()]: { external_ids: ['map', [['kept', 'yes']]] } } })
  writeFileSync(join(at.directory, 'conf.db'), record(older) + record(rows))
  const ovs = await at.start()
  const select = { op: 'select', table: 'Open_vSwitch', where: [], columns: ['external_ids'] }
  assert.deepEqual(await call(ovs, select), [{ rows: [{ external_ids: ['map', [['kept', 'yes']]] }] }])
  const path = ovs.endpoint.replace(/^unix:/, '')
  const served = await callJsonRpc(path, 'get_schema', ['Open_vSwitch'], context.signal)
  assert(isRecord(served))
  assert.equal(served['version'], ovs.versions.schema)
})

/** One record of a standalone database, ovsdb(5). */
function record(json: string): string {
  const hash = createHash('sha1').update(`${json}\n`).digest('hex')
  return `OVSDB JSON ${Buffer.byteLength(json) + 1} ${hash}\n${json}\n`
}

laneTest('a missing program is named with its remedy', userspace, async context => {
  await using at = bench(context)
  const options = { directory: at.directory, signal: context.signal, onEvent: () => {}, removeLinks: async () => [] }
  const error = 'ovs-nothing is not installed: apt-get install openvswitch-switch'
  await assert.rejects(startEmbedded({ ...options, programs: { vswitchd: 'ovs-nothing' } }), { message: error })
})

laneTest('an aborted start leaves nothing running', userspace, async context => {
  await using at = bench(context)
  const abort = new AbortController()
  const onEvent = (event: EmbeddedEvent): void => {
    at.events.push(event)
    if (event.kind === 'started') abort.abort()
  }
  const options = { directory: at.directory, signal: abort.signal, onEvent, removeLinks: async () => [] }
  await assert.rejects(startEmbedded(options), { name: 'AbortError' })
  assert.deepEqual(
    at.events.map(event => event.kind),
    ['started', 'stopped'],
  )
  assert(!existsSync(join(at.directory, 'daemon.pid')))
})
