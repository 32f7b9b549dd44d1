import { createSocket, type Socket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, type Socket as Connection, createServer } from 'node:net'
import { type Netflow, NetflowFormat } from '../../src/gen/ovs/bridge/v1/netflow.js'
import { makeDatagram } from '../../test/support/netflow.js'
import { until } from '../../test/support/until.js'
import type { Bench, Settings } from '../bench.js'
import { cpuMs } from '../usage.js'
import { type Served, withService } from '../world.js'

const flowsPerSecond = 50_000
/** As many as Open vSwitch puts into a datagram. */
const flowsPerDatagram = 30
const tickMs = 10

/** What one flood came to. */
interface Flood {
  readonly cpuMsPerSecond: number
  /** On the way to the file or the peer that reads. */
  readonly lostFlows: number
  /** By the subscriber, who is one process with the exporter. */
  readonly missedFlows: number
}

export const netflow: Bench = {
  name: 'netflow',
  about: `${flowsPerSecond} flows a second, into a file, over TCP and to a subscriber, beside a peer that is stuck`,
  async run(settings) {
    const floods: Flood[] = []
    for (let round = 0; round < settings.rounds; round++) {
      floods.push(await withService(settings, served => flood(settings, served)))
    }
    const what = `netflow: ${flowsPerSecond} flows/s for ${secondsOf(settings)} s`
    return [
      {
        name: `${what}, CPU time of the service for each second`,
        unit: 'ms',
        ours: floods.map(({ cpuMsPerSecond }) => cpuMsPerSecond),
        aim: { kind: 'value', atMost: 1_000 },
      },
      {
        name: `${what}, lost on the way to the file or the peer`,
        unit: 'flows',
        ours: floods.map(({ lostFlows }) => lostFlows),
        aim: { kind: 'value', atMost: 0 },
      },
      {
        name: `${what}, missed by the subscriber and told to it as lost`,
        unit: 'flows',
        ours: floods.map(({ missedFlows }) => missedFlows),
      },
    ]
  },
}

function secondsOf({ smoke }: Settings): number {
  return smoke ? 1 : 10
}

async function flood(settings: Settings, { api, ovs, daemon }: Served): Promise<Flood> {
  using quick = await listen(connection => void connection.resume())
  using stuck = await listen(connection => void connection.pause())
  const { netflow: created } = await api.createNetflow()
  await api.addNetflowWriter({ writer: 'file:flows.txt', format: NetflowFormat.ASCII })
  await api.addNetflowWriter({ writer: `tcp:127.0.0.1:${quick.port}` })
  await api.addNetflowWriter({ writer: `tcp:127.0.0.1:${stuck.port}` })
  const [row] = await ovs.select('NetFlow')
  const engine = { type: Number(row?.['engine_type']), id: Number(row?.['engine_id']) }
  using stream = api.watchFlows()
  await stream.next()
  let [told, missed] = [0, 0]
  const reading = (async () => {
    for (;;) {
      const { flows, lost } = await stream.next('flows', 120_000)
      told += flows.length
      missed += Number(lost)
    }
  })().catch(() => undefined)

  const exporter = createSocket('udp4')
  exporter.connect(Number(created?.collector.split(':')[1]), '127.0.0.1')
  await once(exporter, 'connect')
  const before = cpuMs(daemon.pid)
  const sentFlows = await sendAll(
    exporter,
    firstFlow => makeDatagram({ engine, firstFlow, count: flowsPerDatagram }),
    secondsOf(settings),
  )
  const netflow = await until('all is where it goes', () => settled(api, () => told + missed), { deadlineMs: 60_000 })
  const spentMs = cpuMs(daemon.pid) - before
  exporter.close()
  stream[Symbol.dispose]()
  await reading
  const beyondStuck = netflow.writers.filter(({ name }) => name !== `tcp:127.0.0.1:${stuck.port}`)
  const dropped = beyondStuck.reduce((sum, writer) => sum + Number(writer.droppedFlows), 0)
  const lostFlows = sentFlows - Number(netflow.flows) + dropped
  return { cpuMsPerSecond: spentMs / secondsOf(settings), lostFlows, missedFlows: missed }
}

/** The NetFlow once nothing waits any more but for the peer that is stuck, and the subscriber has been told all. */
async function settled(api: Served['api'], heard: () => number): Promise<Netflow | undefined> {
  const { netflow } = await api.getNetflow({ bridge: 'br0' })
  const waiting = netflow?.writers.filter(({ queuedFlows }) => queuedFlows > 0n).length ?? 0
  return waiting <= 1 && heard() === Number(netflow?.flows) ? netflow : undefined
}

/** Sends datagrams at a steady rate; a tick that comes late is made up for. Answers with how many flows were sent. */
async function sendAll(exporter: Socket, make: (firstFlow: number) => Buffer, durationS: number): Promise<number> {
  const startedAtMs = performance.now()
  const all = flowsPerSecond * durationS
  for (let sent = 0; ; ) {
    const due = Math.min(((performance.now() - startedAtMs) / 1_000) * flowsPerSecond, all)
    for (; sent < due; sent += flowsPerDatagram) {
      const datagram = make(sent)
      await new Promise<void>((resolve, reject) => {
        exporter.send(datagram, error => (error === null ? resolve() : reject(error)))
      })
    }
    if (sent >= all) return sent
    await new Promise(resolve => setTimeout(resolve, tickMs))
  }
}

async function listen(onConnection: (connection: Connection) => void): Promise<Disposable & { readonly port: number }> {
  const connections: Connection[] = []
  const server = createServer(connection => {
    connections.push(connection)
    connection.on('error', () => {})
    onConnection(connection)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    [Symbol.dispose]: () => {
      server.close()
      for (const connection of connections) connection.destroy()
    },
  }
}
