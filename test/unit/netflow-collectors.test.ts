import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { NetflowCollectors, type NetflowGrounds, type NetflowSource } from '../../src/bridge/netflow-collectors.js'
import type { OvsRows } from '../../src/bridge/ovs.js'
import { netflowMarks } from '../../src/bridge/ownership.js'
import { decodeDatagram, parseWriterTarget, Writer, type WriterSpec } from '../../src/netflow/index.js'
import { isUuid } from '../../src/ovsdb/notation.js'
import { makeDatagram } from '../support/netflow.js'
import { until } from '../support/until.js'

type Listener = Parameters<NetflowGrounds['ovsdb']['subscribe']>[0]
type Changes = Parameters<Listener>[0]

interface World extends AsyncDisposable {
  readonly collectors: NetflowCollectors
  readonly captureDirectory: string
  tell(...changes: Changes): void
}

/** Collectors of the instance `default` on a database of which only {@link World.tell} tells. */
function startCollectors(): World {
  const listeners = new Set<Listener>()
  const captureDirectory = mkdtempSync(join(tmpdir(), 'collectors-'))
  const collectors = new NetflowCollectors({
    instance: 'default',
    captureDirectory,
    notice: () => {},
    ovsdb: {
      replica: { revision: 0, get: () => undefined, find: () => undefined, rows: () => [], referrers: () => [] },
      subscribe: listener => {
        listeners.add(listener)
        return { [Symbol.dispose]: () => void listeners.delete(listener) }
      },
    },
  })
  return {
    collectors,
    captureDirectory,
    tell: (...changes) => {
      for (const listener of listeners) listener(changes)
    },
    [Symbol.asyncDispose]: async () => {
      await collectors[Symbol.asyncDispose]()
      rmSync(captureDirectory, { recursive: true })
    },
  }
}

function source(id: string, bridge = 'br0'): NetflowSource {
  return { id, bridge, engine: { type: 1, id: 2 }, activeTimeoutS: 10 }
}

function row(id: string, instance = 'default'): OvsRows['NetFlow'] {
  const uuid = '01234567-89ab-cdef-0123-456789abcdef'
  assert(isUuid(uuid))
  return {
    _uuid: uuid,
    targets: ['127.0.0.1:1'],
    engine_type: 1,
    engine_id: 2,
    active_timeout: 10,
    external_ids: netflowMarks(instance, { id, endWithLastWriter: false }),
  }
}

function spec(name: string): WriterSpec {
  const target = parseWriterTarget(name)
  assert(target.ok)
  return { target: target.value, format: 'raw', gzip: false }
}

test('a collector whose row goes while it is being opened is none', async () => {
  await using world = startCollectors()
  const { collectors } = world
  const opening = collectors.open(source('a'))
  world.tell({ table: 'NetFlow', kind: 'delete', before: row('a') })
  await assert.rejects(opening, /no NetFlow/)
  assert.equal(collectors.get('a'), undefined)
})

test('a collector goes when its row goes, or is of another id or instance', async () => {
  await using world = startCollectors()
  const { collectors } = world
  for (const change of [
    { table: 'NetFlow', kind: 'delete', before: row('a') },
    { table: 'NetFlow', kind: 'modify', before: row('a'), after: row('b') },
    { table: 'NetFlow', kind: 'modify', before: row('a'), after: row('a', 'another') },
  ] as const) {
    const collector = await collectors.open(source('a'))
    world.tell({ table: 'NetFlow', kind: 'modify', before: row('a'), after: row('a') })
    assert.equal(collectors.get('a'), collector)
    world.tell(change)
    assert.equal(collectors.get('a'), undefined)
    await collectors.ended('br0', AbortSignal.timeout(10_000))
    assert.throws(() => collector.address, /EBADF|Not running/)
  }
})

test('what ends on one bridge keeps nobody of another waiting', async () => {
  await using world = startCollectors()
  const { collectors } = world
  const slow = await collectors.open(source('a'))
  await collectors.open(source('b', 'br1'))
  const ended: string[] = []
  let release = () => {}
  const released = new Promise<void>(resolve => (release = resolve))
  const sink = { write: async () => {}, ended: new AbortController().signal, [Symbol.asyncDispose]: () => released }
  slow.add(new Writer({ spec: spec('udp:127.0.0.1:9'), open: async () => sink }))
  const { signal } = new AbortController()
  collectors.end('a')
  collectors.end('b')
  const first = collectors.ended('br0', signal).then(() => ended.push('br0'))
  await collectors.ended('br1', signal).then(() => ended.push('br1'))
  release()
  await first
  assert.deepEqual(ended, ['br1', 'br0'])
})

const decoded = decodeDatagram(makeDatagram({ engine: { type: 1, id: 2 }, firstFlow: 0 }))
assert(decoded.ok)
const oneFlow = decoded.value

test('a writer goes on with the file that it has made, and with no other', async () => {
  await using world = startCollectors()
  const { collectors } = world
  const path = join(world.captureDirectory, 'flows')
  const { writer, file } = await collectors.openWriter('br0', spec('file:flows'))
  await writer[Symbol.asyncDispose]()
  assert.ok(file)
  const resumed = async (problem: string) => {
    await using writer = collectors.resumeWriter('br0', spec('file:flows'), file)
    await until(`it says ${problem}`, () => writer.counters.problem === problem)
  }
  const again = collectors.resumeWriter('br0', spec('file:flows'), file)
  again.offer(oneFlow)
  await until('it is written', () => again.counters.flows === 1)
  await again[Symbol.asyncDispose]()
  const written = readFileSync(path)
  rmSync(path)
  await resumed('the file was removed')
  writeFileSync(path, 'theirs')
  await resumed('another file is in its place')
  assert.equal(readFileSync(path, 'utf8'), 'theirs')
  assert.equal(written.length, oneFlow.bytes.length)
})
