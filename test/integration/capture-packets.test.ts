import assert from 'node:assert/strict'
import { type Filter, filterProgram } from '../../src/capture/address-filter.js'
import { deviceName, openPacketSocket, type Packet, type PacketSocket } from '../../src/capture/packet-socket.js'
import { Disposables } from '../../src/lib/disposables.js'
import { loadSyscalls } from '../../src/lib/syscall.js'
import { arp } from '../support/address-frames.js'
import { openPacketSocket as openLink } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { createVethPair, findLink } from '../support/links.js'
import { createNamespace, enterNamespace } from '../support/namespace.js'
import { until } from '../support/until.js'

const source = '02:00:00:00:00:01'
const frame = arp({ source, ip: '10.0.0.1' })

/** The next ARP frames of a socket, as `device direction TCI`; a link that comes up has its own to say of IPv6. */
async function heard(socket: PacketSocket, count: number, names: ReadonlyMap<number, string>): Promise<string[]> {
  const packets: string[] = []
  await until(`${count} frames`, () => {
    for (const packet of socket.receive()) {
      if (packet.bytes.readUInt16BE(12) === 0x0806) packets.push(inWords(packet, names))
    }
    return packets.length >= count
  })
  return packets
}

function inWords({ device, outgoing, strippedTci }: Packet, names: ReadonlyMap<number, string>): string {
  return `${names.get(device)} ${outgoing ? 'out' : 'in'} ${strippedTci ?? '-'}`
}

laneTest(
  'the kernel hands over what a filter wants, with device, direction and tag, and counts the rest',
  {},
  async () => {
    await using resources = new Disposables()
    resources.use(enterNamespace())
    const far = resources.use(createNamespace('far'))
    const names = new Map<number, string>()
    for (const name of ['machine', 'host']) {
      createVethPair({ name }, { name: `${name}-far` }, far)
      names.set(findLink(name)?.index ?? 0, name)
    }
    const [machine = 0, host = 0] = names.keys()
    const syscalls = loadSyscalls()
    const open = (filter: Filter, queueBytes = 1024 * 1024) =>
      resources.use(openPacketSocket(syscalls, filterProgram(filter), queueBytes))
    const said = open({ direction: 'from-endpoints', hosts: [host], noisy: [] })
    const counted = open({ direction: 'from-endpoints', hosts: [host], noisy: [machine], only: true }, 1)
    const machineEnd = resources.use(far.run(() => openLink('machine-far')))
    const hostEnd = resources.use(far.run(() => openLink('host-far')))
    const hostSide = resources.use(openLink('host'))
    const machineSide = resources.use(openLink('machine'))

    machineSide.send(frame)
    hostEnd.send(frame)
    machineEnd.send(arp({ source, ip: '10.0.0.1', tags: [20] }))
    hostSide.send(frame)
    machineEnd.send(frame)
    assert.deepEqual((await heard(said, 3, names)).sort(), ['host out -', 'machine in -', 'machine in 20'])
    assert.equal(deviceName(syscalls, said.fd, machine), 'machine')
    assert.equal(deviceName(syscalls, said.fd, 9_999), undefined)

    said.setFilter(filterProgram({ direction: 'from-endpoints', hosts: [host], noisy: [machine] }))
    for (let i = 0; i < 100; i++) machineEnd.send(frame)
    hostSide.send(frame)
    assert.deepEqual(await heard(said, 1, names), ['host out -'])
    let passed = 0
    await until('the count of the 102 frames that were not heard', () => {
      passed += counted.takeCounts().passed
      return passed >= 102
    })
  },
)
