import assert from 'node:assert/strict'
import { arp } from '../support/address-frames.js'
import { type DaemonProcess, spawnDaemon } from '../support/daemon-process.js'
import { dashboardQueries } from '../support/dashboard.js'
import { openPacketSocket, openTap } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { type Prometheus, startPrometheus } from '../support/prometheus.js'
import { type Api, blankTap, connectTo } from '../support/rpc.js'
import { startServedTestbed, startService } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'
import { until } from '../support/until.js'

/** Where a daemon says that its metrics are. */
function metricsUrl(daemon: DaemonProcess): string {
  const [, url] = /^ {2}metrics +(\S+)$/m.exec(daemon.stdout()) ?? []
  assert.ok(url, daemon.stdout())
  return url
}

async function scrape(url: string | undefined): Promise<string> {
  assert.ok(url)
  const response = await fetch(url)
  assert.equal(response.status, 200)
  return await response.text()
}

/** The value of a series, spelled as on the page. */
function valueOf(page: string, series: string): number | undefined {
  const line = page.split('\n').find(text => text.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length + 1))
}

/** Asks until each of the queries has data; meanwhile goes on with what gives them some. */
async function untilAllHaveData(prometheus: Prometheus, queries: readonly string[], meanwhile: () => Promise<unknown>) {
  let without: readonly string[] = queries
  await until(
    'data for every query of the dashboard',
    async () => {
      await meanwhile()
      const found = await Promise.all(without.map(async query => ({ query, series: await prometheus.query(query) })))
      without = found.filter(({ series }) => series.length === 0).map(({ query }) => query)
      return without.length === 0
    },
    { deadlineMs: 60_000, everyMs: 250 },
  ).catch((error: unknown) => {
    throw new Error(`no data for ${without.join('\n')}`, { cause: error })
  })
}

/** Until the condition of an alert holds; meanwhile goes on with what makes it hold. */
async function untilAlert(prometheus: Prometheus, name: string, meanwhile: () => Promise<unknown> = async () => {}) {
  await until(
    `the alert ${name}`,
    async () => {
      await meanwhile()
      const alert = (await prometheus.alerts()).find(one => one.name === name)
      assert.ok(alert, `no alert ${name}`)
      assert.equal(alert.lastError, '')
      return alert.holds
    },
    { deadlineMs: 60_000, everyMs: 250 },
  )
}

/** Traffic into a VM that reads nothing: more than its device queues. */
function overrun(bed: { use<T extends Disposable>(resource: T): T }): () => Promise<void> {
  bed.use(openTap('vm'))
  const sender = bed.use(openPacketSocket('host0'))
  const frame = Buffer.concat([Buffer.from('ffffffffffff02000000009888b5', 'hex'), Buffer.alloc(986, 0x5a)])
  return async () => {
    for (let i = 0; i < 1_500; i++) sender.send(frame)
  }
}

/** A call that changes something and is not refused for what it asks. */
async function attempt(api: Api): Promise<void> {
  await api.createTap({ tap: 'later' }).catch(() => undefined)
}

laneTest(
  'Prometheus scrapes the daemon, the dashboard has data, and every alert is raised by what it is for',
  { isLong: true, only: 'userspace', timeoutMs: 240_000 },
  async context => {
    await using bed = await startTestbed(context.signal)
    const daemon = bed.use(await spawnDaemon(bed.ovs, { flags: ['--default-bridge', 'br0'] }))
    const { api } = bed.use(connectTo(daemon.address))
    await api.ensureBridge()
    const idle = Array.from({ length: 300 }, (_, i) => ({ ...blankTap, tap: `idle${i}` }))
    await api.createTaps({ taps: [{ ...blankTap, tap: 'vm' }, ...idle] })
    await api.createHostTap({ tap: 'host0' })
    const prometheus = bed.use(await startPrometheus(new URL(metricsUrl(daemon)).host))
    using held = api.watchTapStats({ interval: { seconds: 0n, nanos: 200_000_000 } })
    // The first, and then no more: grpc-js holds nothing back for a client that has never read.
    await held.next('a tick')
    const send = overrun(bed)
    const queries = dashboardQueries()
    assert.ok(queries.length > 25)
    await untilAllHaveData(prometheus, queries, async () => {
      await send()
      await api.updateQos({ tap: 'vm', qos: { rate: '1gbit' } })
      await api.getTap({ tap: 'nobody' }).catch(() => undefined)
    })
    await untilAlert(prometheus, 'OvsBridgedTapDrops', send)
    await untilAlert(prometheus, 'OvsBridgedStreamHeld')
    await bed.ovs.vswitchd.kill()
    await untilAlert(prometheus, 'OvsBridgedVswitchdDown')
    await bed.ovs.ovsdbServer.kill()
    await untilAlert(prometheus, 'OvsBridgedDatabaseLost')
    await untilAlert(prometheus, 'OvsBridgedCallsFail', () => attempt(api))
    await daemon.end('SIGKILL')
    await untilAlert(prometheus, 'OvsBridgedDown')
    const shown = new Set(['TapDrops', 'StreamHeld', 'VswitchdDown', 'DatabaseLost', 'CallsFail', 'Down'])
    const unshown = (await prometheus.alerts()).filter(({ name }) => !shown.has(name.replace('OvsBridged', '')))
    assert.deepEqual(unshown, [])
  },
)

laneTest(
  'a tap is counted where it is, and only while it is there',
  { looksInside: true, only: 'userspace' },
  async context => {
    await using bed = await startServedTestbed(context.signal)
    const service = bed.use(await startService(bed, '--instance', 'second', '--metrics-listen', '127.0.0.1:0'))
    const { api } = service
    const url = service.daemon.metricsUrl
    await api.ensureBridge({ bridge: 'br7' })
    await api.createTap({ tap: 'one', bridge: 'br7' })
    const active = 'ovs_bridged_taps{kind="tuntap",state="active"}'
    assert.equal(valueOf(await scrape(url), active), 1)
    const received = (bridge: string) => `ovs_bridged_tap_receive_bytes_total{bridge="${bridge}",tap="one"}`
    await until('counters of the tap', async () => valueOf(await scrape(url), received('br7')) !== undefined, {
      deadlineMs: 20_000,
      everyMs: 100,
    })
    const vm = bed.use(openTap('one'))
    await until('its address to be counted', async () => {
      vm.send(arp({ source: '02:00:00:00:00:01', ip: '10.0.0.1' }))
      return valueOf(await scrape(url), 'ovs_bridged_addresses') === 1
    })
    await api.removeTap({ tap: 'one' })
    const detached = await scrape(url)
    assert.equal(valueOf(detached, received('br7')), undefined)
    assert.notEqual(valueOf(detached, received('')), undefined)
    assert.equal(valueOf(detached, 'ovs_bridged_taps{kind="tuntap",state="detached"}'), 1)
    await api.destroyTap({ tap: 'one' })
    const page = await scrape(url)
    assert.equal(valueOf(page, active), 0)
    assert.ok(!page.includes('tap="one"'))
    assert.equal(valueOf(page, 'ovs_bridged_addresses'), 0)
    assert.equal(valueOf(page, 'ovs_bridged_addresses_learned_total'), 1)
    assert.equal(valueOf(page, 'ovs_bridged_calls_total{method="CreateTap",code="OK"}'), 1)
    assert.ok((valueOf(page, 'ovs_bridged_ovsdb_transaction_duration_seconds_count{outcome="committed"}') ?? 0) >= 3)
    assert.ok((valueOf(page, 'ovs_bridged_ovsdb_transactions_total{outcome="committed"}') ?? 0) >= 3)
    assert.equal(valueOf(page, 'ovs_bridged_ovsdb_connections_total'), 1)
    assert.ok((valueOf(page, 'ovs_bridged_ovsdb_rows') ?? 0) > 1)
  },
)

laneTest('with --no-metrics-per-tap nothing names a tap', { looksInside: true, only: 'userspace' }, async context => {
  await using bed = await startTestbed(context.signal)
  const flags = ['--metrics-listen', '[::1]:0', '--no-metrics-per-tap']
  const service = bed.use(await startService(bed, ...flags))
  await service.api.ensureBridge()
  await service.api.createTap({ tap: 'one' })
  using stream = service.api.watchTapStats({ interval: { seconds: 1n, nanos: 0 } })
  await stream.next('a tick')
  const page = await scrape(service.daemon.metricsUrl)
  assert.equal(valueOf(page, 'ovs_bridged_taps{kind="tuntap",state="active"}'), 1)
  assert.equal(valueOf(page, 'ovs_bridged_streams{method="WatchTapStats"}'), 1)
  assert.ok(!page.includes('tap="'))
})
