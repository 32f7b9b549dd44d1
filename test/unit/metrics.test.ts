import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { sharing } from '../../src/lib/sharing.js'
import { itemsPerTurn } from '../../src/lib/turns.js'
import { openDoor } from '../../src/metrics/door.js'
import { type Door, newTally, type Present, serveMetrics } from '../../src/metrics/index.js'
import { type Page, Pages } from '../../src/metrics/page.js'
import { type TapTotals, tapLines } from '../../src/metrics/tap-lines.js'
import { dashboardQueries } from '../support/dashboard.js'
import { metricsFile, metricsPage } from '../support/metrics-doc.js'
import { expectPage } from '../support/page.js'
import { checkout } from '../support/readme.js'
import { deferred } from '../support/server-rig.js'
import { until } from '../support/until.js'

const anyPort = { kind: 'tcp', host: '127.0.0.1', port: 0 } as const

function totals(tap: string, bytes: bigint, bridge = 'br0'): TapTotals {
  const counts = { rxBytes: bytes, txBytes: bytes + 1n, rxPackets: 2n, txPackets: 3n }
  return { tap, bridge, counters: { ...counts, rxDropped: 4n, txDropped: 5n, rxErrors: 6n, txErrors: 7n } }
}

/** Each another number. */
const readings = {
  connects: 101,
  losses: 102,
  loads: 103,
  probes: 104,
  messagesReceived: 105,
  messagesSent: 106,
  bytesReceived: 107,
  bytesSent: 108,
  transactionsCommitted: 109,
  transactionsRefused: 110,
  transactionsUnknown: 111,
  changes: 112,
  pendingCalls: 113,
  unsentBytes: 114,
  rows: 115,
}

const addresses = { known: 201, learned: 202, expired: 203, conflicts: 204, overLimit: 205, framesLost: 206 }

const present: Present = {
  taps: () => [{ kind: 'tuntap', state: 'active', count: 2 }],
  tapTotals: () => [totals('one', 2n ** 64n - 2n), totals('two', 0n, '')],
  streams: () => [{ method: 'WatchTaps', open: 2, held: 1, lagMs: 1_500 }],
  addresses: () => addresses,
  ovsdb: () => ({ states: ['ready', 'waiting'], state: 'ready', readings }),
}

function promtool(args: readonly string[], input = ''): { readonly status: number | null; readonly said: string } {
  const { status, stdout, stderr } = spawnSync('promtool', args, { input, encoding: 'utf8' })
  return { status, said: stdout + stderr }
}

/** A door with something of each family behind it. */
function openAll(): Promise<Door> {
  const tally = newTally({ version: '1.2.3', repairs: ['tap_device'] })
  tally.call({ kind: 'unary', method: 'GetTap', code: 'NOT_FOUND', durationMs: 3 })
  tally.call({ kind: 'stream', method: 'WatchTaps', code: 'CANCELLED', durationMs: 60_000 })
  tally.transaction({ parts: 3, outcome: 'committed', durationMs: 4 })
  tally.ovsdbEntered('ready')
  tally.reconciled('start', 'done')
  tally.repaired('tap_qos', 2)
  tally.vswitchdAnswered(true)
  return serveMetrics({ address: anyPort, tally, present, onError: () => {} })
}

test('what is served is well-formed, and named as Prometheus asks', async () => {
  await using door = await openAll()
  const response = await fetch(door.url)
  assert.equal(response.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8')
  const page = await response.text()
  assert.deepEqual(promtool(['check', 'metrics'], page), { status: 0, said: '' })
})

test('docs/metrics.md tells every metric with its labels', async () => {
  await using door = await openAll()
  const page = metricsPage(await (await fetch(door.url)).text())
  expectPage(metricsFile, () => page)
})

test('what the client of the database has counted is told, at each scrape as it is then', async () => {
  await using door = await openAll()
  for (let scrape = 0; scrape < 2; scrape++) {
    const page = await (await fetch(door.url)).text()
    const lines = page.split('\n').filter(line => line.startsWith('ovs_bridged_ovsdb_'))
    const told = lines.filter(line => / 1[01]\d$/.test(line)).map(line => line.slice('ovs_bridged_ovsdb_'.length))
    assert.deepEqual(told, [
      'connections_total 101',
      'losses_total 102',
      'loads_total 103',
      'probes_total 104',
      'messages_total{direction="received"} 105',
      'messages_total{direction="sent"} 106',
      'bytes_total{direction="received"} 107',
      'bytes_total{direction="sent"} 108',
      'transactions_total{outcome="committed"} 109',
      'transactions_total{outcome="refused"} 110',
      'transactions_total{outcome="unknown"} 111',
      'changes_total 112',
      'pending_calls 113',
      'unsent_bytes 114',
      'rows 115',
    ])
  }
})

test('the alerts are well-formed', () => {
  const { status, said } = promtool(['check', 'rules', fileURLToPath(new URL('deploy/prometheus-rules.yml', checkout))])
  assert.equal(status, 0, said)
})

test('the queries of the dashboard are well-formed', () => {
  const rules = dashboardQueries().map((expr, index) => ({ record: `query:${index}`, expr }))
  const directory = mkdtempSync(join(tmpdir(), 'dashboard-'))
  writeFileSync(join(directory, 'rules.json'), JSON.stringify({ groups: [{ name: 'dashboard', rules }] }))
  const { status, said } = promtool(['check', 'rules', join(directory, 'rules.json')])
  rmSync(directory, { recursive: true })
  assert.equal(status, 0, said)
  assert.match(said, new RegExp(`${rules.length} rules found`))
})

test('what has happened and how things stand is told', async () => {
  await using door = await openAll()
  const lines = new Set((await (await fetch(door.url)).text()).split('\n'))
  for (const line of [
    `ovs_bridged_build_info{version="1.2.3",node_version="${process.versions.node}"} 1`,
    'ovs_bridged_calls_total{method="GetTap",code="NOT_FOUND"} 1',
    'ovs_bridged_calls_total{method="WatchTaps",code="CANCELLED"} 1',
    'ovs_bridged_call_duration_seconds_bucket{le="0.0025",method="GetTap"} 0',
    'ovs_bridged_call_duration_seconds_bucket{le="0.005",method="GetTap"} 1',
    'ovs_bridged_ovsdb_transaction_duration_seconds_count{outcome="committed"} 1',
    'ovs_bridged_ovsdb_transaction_parts_total 3',
    'ovs_bridged_ovsdb_state_changes_total{state="ready"} 1',
    'ovs_bridged_ovsdb_state{state="ready"} 1',
    'ovs_bridged_ovsdb_state{state="waiting"} 0',
    'ovs_bridged_reconciliations_total{occasion="start",outcome="done"} 1',
    'ovs_bridged_repairs_total{what="tap_qos"} 2',
    'ovs_bridged_repairs_total{what="tap_device"} 0',
    'ovs_bridged_vswitchd_up 1',
    'ovs_bridged_addresses 201',
    'ovs_bridged_addresses_learned_total 202',
    'ovs_bridged_addresses_expired_total 203',
    'ovs_bridged_address_conflicts_total 204',
    'ovs_bridged_addresses_over_limit_total 205',
    'ovs_bridged_snooped_frames_lost_total 206',
    'ovs_bridged_taps{kind="tuntap",state="active"} 2',
    'ovs_bridged_streams{method="WatchTaps"} 2',
    'ovs_bridged_streams_held{method="WatchTaps"} 1',
    'ovs_bridged_stream_lag_seconds{method="WatchTaps"} 1.5',
    'ovs_bridged_tap_receive_bytes_total{bridge="br0",tap="one"} 18446744073709551614',
    'ovs_bridged_tap_transmit_bytes_total{bridge="",tap="two"} 1',
    'ovs_bridged_tap_receive_packets_total{bridge="br0",tap="one"} 2',
    'ovs_bridged_tap_transmit_packets_total{bridge="br0",tap="one"} 3',
    'ovs_bridged_tap_receive_drops_total{bridge="br0",tap="one"} 4',
    'ovs_bridged_tap_transmit_drops_total{bridge="br0",tap="one"} 5',
    'ovs_bridged_tap_receive_errors_total{bridge="br0",tap="one"} 6',
    'ovs_bridged_tap_transmit_errors_total{bridge="br0",tap="one"} 7',
  ]) {
    assert.ok(lines.has(line), line)
  }
  // The time that a stream is open is no latency.
  assert.ok(![...lines].some(line => line.startsWith('ovs_bridged_call_duration') && line.includes('WatchTaps')))
  assert.ok([...lines].some(line => line.startsWith('process_cpu_seconds_total ')))
})

test('a label with quotes, backslashes and line ends does not break the page', () => {
  const [, line] = [...tapLines([totals('a"b\\c\nd', 1n)])]
  assert.equal(line, 'ovs_bridged_tap_receive_bytes_total{bridge="br0",tap="a\\"b\\\\c\\nd"} 1\n')
})

test('without taps their families are there, and empty', () => {
  assert.equal([...tapLines([])].length, 8)
})

/** A page with how many hold it. */
function pageOf(slices: Buffer[]) {
  const page = {
    slices,
    holders: 0,
    hold: () => {
      page.holders++
      return { [Symbol.dispose]: () => void page.holders-- }
    },
  }
  return page
}

function textOf({ slices }: Pick<Page, 'slices'>): string {
  return Buffer.concat(slices).toString()
}

/** Counts turns of the event loop, and how often something was noted in the one with most. */
function countTurns() {
  let [turn, last, inTurn, most] = [0, -1, 0, 0]
  let next = setImmediate(function again() {
    turn++
    next = setImmediate(again)
  })
  return {
    note: () => {
      inTurn = turn === last ? inTurn + 1 : 1
      last = turn
      most = Math.max(most, inTurn)
    },
    most: () => most,
    [Symbol.dispose]: () => clearImmediate(next),
  }
}

test('rendering lets other work go first after so many lines, however fast, and loses nothing', async () => {
  using turns = countTurns()
  const lines = Array.from({ length: 10_000 }, (_, i) => `${i} äöü\n`)
  function* watched() {
    for (const line of lines) {
      turns.note()
      yield line
    }
  }
  const { slices } = await new Pages().render([], watched)
  assert.ok(turns.most() <= itemsPerTurn, `${turns.most()} lines in one turn`)
  assert.ok(slices.length > 1)
  assert.equal(Buffer.concat(slices).toString(), lines.join(''))
})

test('a line that is longer than a slice is whole', async () => {
  const lines = ['a\n', `${'ö'.repeat(100_000)}\n`, 'b\n']
  assert.equal(textOf(await new Pages().render([], () => lines)), lines.join(''))
})

test('a page is not written over while somebody reads it, and its buffers are used again afterwards', async () => {
  const pages = new Pages()
  const write = (letter: string) => pages.render([], () => Array.from({ length: 200 }, () => letter.repeat(1_000)))
  const first = await write('a')
  const memory = new Set(first.slices.map(({ buffer }) => buffer))
  const isFirsts = ({ buffer }: Buffer) => memory.has(buffer)
  const [one, other] = [first.hold(), first.hold()]
  one[Symbol.dispose]()
  const second = await write('b')
  assert.ok(!second.slices.some(isFirsts))
  assert.equal(textOf(first), 'a'.repeat(200_000))
  other[Symbol.dispose]()
  const third = await write('c')
  assert.ok(third.slices.every(isFirsts))
  assert.deepEqual([textOf(second), textOf(third)], ['b'.repeat(200_000), 'c'.repeat(200_000)])
})

test('a page is sent a slice each turn', async () => {
  using turns = countTurns()
  const page = pageOf(Array.from({ length: 50 }, (_, i) => Buffer.from(`${i}\n`)))
  const text = textOf(page)
  const slices = page.slices.values.bind(page.slices)
  page.slices[Symbol.iterator] = function* () {
    for (const slice of slices()) {
      turns.note()
      yield slice
    }
    return undefined
  }
  await using door = await openDoor({ address: anyPort, render: async () => page, onError: assert.ifError })
  assert.equal(await (await fetch(door.url)).text(), text)
  assert.equal(turns.most(), 1)
})

test('who goes before the end of a page leaves nothing behind, and the next one gets it whole', async () => {
  const slice = Buffer.alloc(1024 * 1024, 'x')
  const page = pageOf(Array.from({ length: 30 }, () => slice))
  await using door = await openDoor({ address: anyPort, render: async () => page, onError: assert.ifError })
  const left = new AbortController()
  const response = await fetch(door.url, { signal: left.signal })
  await response.body?.getReader().read()
  left.abort()
  assert.equal((await (await fetch(door.url)).arrayBuffer()).byteLength, 30 * slice.length)
  await until('nobody to hold the page', () => page.holders === 0)
})

test('another path, and another method, are refused', async () => {
  await using door = await openAll()
  assert.equal((await fetch(new URL('/', door.url))).status, 404)
  const posted = await fetch(door.url, { method: 'POST' })
  assert.deepEqual([posted.status, posted.headers.get('allow')], [405, 'GET, HEAD'])
  const head = await fetch(`${door.url}?x=1`, { method: 'HEAD' })
  assert.equal(head.status, 200)
  assert.ok(Number(head.headers.get('content-length')) > 1_000)
})

test('who asks for a page while it is being made shares it, and who asks later gets a new one', async () => {
  const made = [deferred<string>(), deferred<string>()]
  let times = 0
  const ask = sharing(async () => await made[times++]?.promise)
  const [first, second] = [ask(), ask()]
  made[0]?.resolve('first')
  assert.deepEqual([await first, await second, times], ['first', 'first', 1])
  const third = ask()
  made[1]?.resolve('second')
  assert.deepEqual([await third, times], ['second', 2])
})

test('a page that cannot be made is a failed scrape, and the next one is tried anew', async () => {
  const errors: unknown[] = []
  let times = 0
  const render = async () => {
    if (times++ === 0) throw new Error('no')
    return pageOf([Buffer.from('page\n')])
  }
  await using door = await openDoor({ address: anyPort, render, onError: error => errors.push(error) })
  assert.equal((await fetch(door.url)).status, 500)
  assert.equal(errors.length, 1)
  assert.equal(await (await fetch(door.url)).text(), 'page\n')
})

test('an address that somebody else has is refused in a sentence', async () => {
  await using door = await openAll()
  const port = Number(new URL(door.url).port)
  const second = openDoor({ address: { ...anyPort, port }, render: async () => pageOf([]), onError: () => {} })
  const message = `cannot serve metrics on 127.0.0.1:${port}: another process is listening there; give --metrics-listen another address, or off`
  await assert.rejects(second, { message })
})
