// Two containers on a VLAN: who they are, what they send, and over which link. Knows the contract from the .proto files
// alone, nothing is generated. As root, in a checkout:
//   npx tsc
//   node build/examples/typescript/lab.js [unix:/run/ovs-bridged/ovs-bridged.sock] [proto]
import { execFileSync } from 'node:child_process'
import { credentials, loadPackageDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

const [target = 'unix:/run/ovs-bridged/ovs-bridged.sock', protos = 'proto'] = process.argv.slice(2)
const [bridge, vlan] = ['lab', 10]
const endpoints = { red: '10.0.0.1', blue: '10.0.0.2' }

// As proto3's JSON has them, but for the names of fields and for 64 bits, which come as decimal strings.
const definition = loadSync('ovs/bridge/v1/service.proto', {
  includeDirs: [protos],
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
})
// What is loaded at run time has no type.
const { ovs } = loadPackageDefinition(definition) as any
const client = new ovs.bridge.v1.BridgeService(target, credentials.createInsecure())

type Message = any
const deadline = () => ({ deadline: Date.now() + 30_000 })

function call(method: string, request: object): Promise<Message> {
  return new Promise((resolve, reject) => {
    client[method](request, deadline(), (error: Error | null, response: Message) => {
      if (error === null) resolve(response)
      else reject(error)
    })
  })
}

function run(program: string, ...args: readonly string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
}

/** What undoes what was done, the latest last. */
const undo: (() => unknown)[] = []

async function makeEndpoint(name: string, address: string): Promise<void> {
  run('ip', 'netns', 'add', name)
  undo.push(() => run('ip', 'netns', 'delete', name))
  const { tap } = await call('CreateContainerTap', { bridge, tap: name, netns: name, vlan })
  run('ip', '-n', name, 'address', 'add', `${address}/24`, 'dev', `veth${tap.veth_index}`)
  console.log(`tap ${tap.name} on ${tap.bridge}, VLAN ${tap.vlan}`)
}

async function tellAddresses(batches: AsyncIterable<Message>): Promise<void> {
  const awaited = new Set(Object.values(endpoints))
  for await (const { events } of batches) {
    for (const { type, tap, address } of events) {
      if (type === 'ADDRESS_EVENT_TYPE_LEARNED' && awaited.delete(address.ip)) {
        console.log(`address ${address.ip} behind ${tap}`)
      }
    }
    if (awaited.size === 0) return
  }
}

async function tellStats(ticks: AsyncIterable<Message>): Promise<void> {
  for await (const { stats } of ticks) {
    for (const { rx_bytes, tx_bytes } of stats) {
      if (rx_bytes === '0' || tx_bytes === '0') continue
      console.log(`red received ${rx_bytes} bytes and sent ${tx_bytes}`)
      return
    }
  }
}

async function lab(): Promise<void> {
  await call('EnsureBridge', { bridge })
  undo.push(() => call('DestroyBridge', { bridge }))
  for (const [name, address] of Object.entries(endpoints)) await makeEndpoint(name, address)

  const addresses = client.WatchAddresses({ bridge }, deadline())
  // What a cancelled call ends with is no failure.
  addresses.on('error', () => {})
  const { capture } = await call('StartCapture', { tap: 'red', filter: 'icmp' })
  run('ip', 'netns', 'exec', 'red', 'ping', '-c', '3', '-i', '0.2', endpoints.blue)
  await tellAddresses(addresses)
  addresses.cancel()
  const ticks = client.WatchTapStats({ taps: ['red'], interval: { seconds: 1 } }, deadline())
  ticks.on('error', () => {})
  await tellStats(ticks)
  ticks.cancel()

  const stopped = await call('StopCapture', { id: capture.id })
  console.log(`captured ${stopped.capture.packets} packets in ${stopped.capture.file_name}`)

  const { qos } = await call('UpdateQos', { tap: 'blue', qos: { rate: '10mbit' } })
  console.log(`towards blue ${qos.actual_to_endpoint.rate}`)
}

try {
  await lab()
} finally {
  for (const step of undo.reverse()) await step()
  client.close()
}
console.log('cleaned up')
