import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { type Flow, NetflowFormat } from '../../src/gen/ovs/bridge/v1/netflow.js'
import { laneTest } from '../support/lane.js'
import { findLink } from '../support/links.js'
import type { Namespace } from '../support/namespace.js'
import { captureDirectory, flowsUntil, seconds, startNfcapd, sumOf } from '../support/netflow.js'
import { openPinger } from '../support/ping.js'
import { plug } from '../support/plug.js'
import { type ServedTestbed, startServedTestbed } from '../support/service.js'
import { within } from '../support/until.js'

/** What a container's own end has sent so far, as its kernel counts. */
function countersOf(container: Namespace) {
  const { rxPackets, txPackets, rxBytes, txBytes } = container.run(() => findLink('veth0'))?.statistics ?? {}
  return {
    rxPackets: Number(rxPackets),
    txPackets: Number(txPackets),
    rxBytes: Number(rxBytes),
    txBytes: Number(txBytes),
  }
}

/** What iperf3 says of its data; iperf3(1). */
interface Carried {
  readonly bytes: number
  /** Of UDP. */
  readonly packets?: number
}

/** Runs iperf3 between two containers, and answers with what its client says. */
async function iperf(
  bed: ServedTestbed,
  from: Namespace,
  to: Namespace,
  ...args: readonly string[]
): Promise<{ readonly sent: Carried; readonly received: Carried }> {
  const start = (...all: readonly string[]): ChildProcess => {
    const child = spawn('iperf3', all, { stdio: ['ignore', 'pipe', 'inherit'] })
    bed.use({ [Symbol.dispose]: () => void child.kill('SIGKILL') })
    return child
  }
  const server = to.run(() => start('--server', '--one-off', '--forceflush'))
  const served = once(server, 'close')
  await within('iperf3 listens', 30_000, once(server.stdout ?? server, 'data'))
  const client = from.run(() => start('--client', '10.0.0.2', '--json', ...args))
  let said = ''
  client.stdout?.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  await within('iperf3 is done', 60_000, Promise.all([once(client, 'close'), served]))
  const { end } = JSON.parse(said) as { end: { sum_sent?: Carried; sum_received?: Carried } }
  assert.ok(end.sum_sent && end.sum_received, said)
  return { sent: end.sum_sent, received: end.sum_received }
}

laneTest(
  'pings, TCP and UDP are told with their ends, taps, packets and bytes; writers and nfcapd have the same',
  {},
  async context => {
    using captures = captureDirectory()
    await using bed = await startServedTestbed(context.signal, ...captures.flags)
    const { api } = bed
    const red = await plug(bed, 'red', '10.0.0.1/24', { vlan: 10 })
    const blue = await plug(bed, 'blue', '10.0.0.2/24', { vlan: 10 })
    await using nfcapd = await startNfcapd(9_995, context.signal)
    using stream = api.watchFlows()
    await stream.next('the subscription')
    const { netflow: created } = await api.createNetflow({ activeTimeout: seconds(1) })
    assert.match(created?.collector ?? '', /^127\.0\.0\.1:\d+$/)
    await api.addNetflowWriter({ writer: 'udp:127.0.0.1:9995' })
    await api.addNetflowWriter({ writer: 'file:flows.txt', format: NetflowFormat.ASCII })
    await api.addNetflowWriter({ writer: 'file:flows.gz', gzip: true })
    const [lines, zipped] = [bed.use(await openPeer()), bed.use(await openPeer())]
    await api.addNetflowWriter({ writer: lines.name, format: NetflowFormat.ASCII })
    await api.addNetflowWriter({ writer: zipped.name, gzip: true })

    const pings = 20
    using pinger = openPinger(red, '10.0.0.2')
    for (let i = 0; i < pings; i++) await pinger.once('10.0.0.2', 5_000)
    // A TCP client ends with bytes of its own still on their way: what was received did pass.
    const { received: tcp } = await iperf(bed, red, blue, '--bytes', '2M')
    const { sent: udp } = await iperf(bed, red, blue, '--udp', '--bitrate', '400K', '--length', '1000', '--time', '1')

    const flows = await flowsUntil(
      stream,
      'all that red has sent',
      all =>
        sumOf(echoes(all)).packets >= pings &&
        sumOf(toIperf(all, 6)).bytes >= tcp.bytes &&
        sumOf(toIperf(all, 17)).packets > (udp.packets ?? 0),
    )
    const { netflow } = await api.destroyNetflow({ bridge: 'br0' })
    assert.ok(netflow)
    const isRest = (more: readonly Flow[]) => flows.length + more.length >= Number(netflow.flows)
    flows.push(...(await flowsUntil(stream, 'all that was told', isRest)))

    const ends = { '10.0.0.1': countersOf(red), '10.0.0.2': countersOf(blue) }
    assert.deepEqual(sumOf(echoes(flows)), { packets: pings, bytes: pings * (14 + 20 + 64) })
    const datagrams = sumOf(toIperf(flows, 17))
    // One of 4 bytes opens the test.
    assert.deepEqual(datagrams, { packets: (udp.packets ?? 0) + 1, bytes: udp.bytes + 4 + datagrams.packets * 42 })
    for (const [source, input, output] of [
      ['10.0.0.1', 'red', 'blue'],
      ['10.0.0.2', 'blue', 'red'],
    ] as const) {
      const own = flows.filter(flow => flow.source === source)
      const places = new Set(own.map(flow => `${flow.bridge} ${flow.input} ${flow.output} ${flow.destination}`))
      assert.deepEqual([...places], [`br0 ${input} ${output} ${source === '10.0.0.1' ? '10.0.0.2' : '10.0.0.1'}`])
      const [told, { txPackets, txBytes }] = [sumOf(own), ends[source]]
      assert.ok(
        told.packets <= txPackets && told.bytes <= txBytes,
        `${JSON.stringify(told)} of ${txPackets}/${txBytes}`,
      )
    }

    const { lostFlows, malformedDatagrams, foreignDatagrams } = netflow
    assert.deepEqual([lostFlows, malformedDatagrams, foreignDatagrams], [0n, 0n, 0n])
    const total = { flows: Number(netflow.flows), packets: Number(netflow.packets), bytes: Number(netflow.bytes) }
    assert.deepEqual({ flows: flows.length, ...sumOf(flows) }, total)
    for (const writer of netflow.writers) {
      assert.deepEqual([writer.flows, writer.droppedFlows, writer.problem], [netflow.flows, 0n, ''], writer.name)
    }
    assert.deepEqual(await nfcapd.summary(), total)
    const ascii = readFileSync(join(captures.path, 'flows.txt'), 'utf8')
    assert.deepEqual(readAscii(ascii), total)
    assert.equal((await lines.received()).toString(), ascii)
    const raw = gunzipSync(readFileSync(join(captures.path, 'flows.gz')))
    assert.equal(BigInt(raw.length), netflow.monitorBytes)
    assert.deepEqual(gunzipSync(await zipped.received()), raw)
  },
)

/** The flow of red's pings: ICMP echo requests. */
function echoes(flows: readonly Flow[]): Flow[] {
  return flows.filter(flow => flow.protocol === 1 && flow.source === '10.0.0.1' && flow.destinationPort === 8 * 256)
}

/** What goes to iperf3's server over TCP or UDP. */
function toIperf(flows: readonly Flow[], protocol: number): Flow[] {
  return flows.filter(flow => flow.protocol === protocol && flow.destinationPort === 5201)
}

/** A TCP server that takes one connection. */
async function openPeer() {
  const chunks: Buffer[] = []
  const server = createServer()
  const ended = new Promise<void>(resolve => {
    server.on('connection', socket => {
      socket.on('data', chunk => chunks.push(chunk))
      socket.on('close', () => resolve())
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    name: `tcp:127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** All that came, once the connection has been closed. */
    received: async () => {
      await within('the writer has closed the connection', 10_000, ended)
      return Buffer.concat(chunks)
    },
    [Symbol.dispose]: () => void server.close(),
  }
}

function readAscii(text: string) {
  const lines = text.split('\n').slice(0, -1)
  const fields = lines.map(line => {
    const found = /^\d{4}-\d\d-\d\dT[\d:.]{12}Z\t[\d.]+s\t\d+\t[\d.]+:\d+\t<->\t[\d.]+:\d+\t(\d+)\t(\d+)$/.exec(line)
    assert.ok(found, line)
    return { packets: Number(found[1]), bytes: Number(found[2]) }
  })
  const sum = (of: 'packets' | 'bytes') => fields.reduce((total, line) => total + line[of], 0)
  return { flows: lines.length, packets: sum('packets'), bytes: sum('bytes') }
}
