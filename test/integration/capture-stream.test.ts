import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { StreamCaptureResponse } from '../../src/gen/ovs/bridge/v1/capture.js'
import {
  capinfos,
  captureOf,
  ofTap,
  startCapture,
  startCapturing,
  startCapturingOne,
  tcpdumpHex,
  testFrame,
} from '../support/captured.js'
import { command, mainProgram, output, quoted } from '../support/command.js'
import { type FrameSocket, openTap } from '../support/frame-socket.js'
import { laneTest } from '../support/lane.js'
import { createVethPair } from '../support/links.js'
import { linkNames } from '../support/namespace.js'
import { checkout } from '../support/readme.js'
import { refusalOf } from '../support/refusal.js'
import { blankTap, type RpcStream } from '../support/rpc.js'
import { repeating, until } from '../support/until.js'

// How a stream waits and ends, and what programs make of it, does not depend on the datapath; in user-mode Linux each takes seconds
// to start.
const userspace = { only: 'userspace', timeoutMs: 85_000 } as const
const patience = { deadlineMs: 60_000 } as const

const ovsBridged = [process.execPath, mainProgram]

function temporary(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'stream-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}

/** All parts of a stream that ends by itself. */
async function readAll(stream: RpcStream<StreamCaptureResponse>): Promise<readonly StreamCaptureResponse[]> {
  const parts: StreamCaptureResponse[] = []
  try {
    for (;;) parts.push(await stream.next('more, or the end'))
  } catch (error) {
    if (!String(error).includes('the server ended the stream')) throw error
    return parts
  }
}

function dataOf(parts: readonly StreamCaptureResponse[]): Buffer {
  return Buffer.concat(parts.map(({ data }) => data))
}

/** Sends frames until `enough` says that they are; how many it were. */
async function sendUntil(from: FrameSocket, enough: Promise<unknown>): Promise<number> {
  let isEnough = false
  void enough.finally(() => (isEnough = true))
  let sent = 0
  const work = () => {
    if (!isEnough) from.send(testFrame(sent++, 100))
    return isEnough
  }
  await until('enough was sent', work, patience)
  return sent
}

laneTest('a stream is pcapng of several taps, which says what it is of', {}, async context => {
  using directory = temporary()
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  await api.createTap({ tap: 'one', vlan: 10 })
  await api.createTap({ tap: 'two', vlan: 20 })
  const one = bed.use(openTap('one'))
  const two = bed.use(openTap('two'))
  const stream = bed.use(api.streamCapture({ taps: ['one', 'two'], filter: 'ether proto 0x88b5', maxPackets: 6n }))
  const first = await stream.next('the headers')
  for (let i = 0; i < 3; i++) {
    one.send(testFrame(9, 100, { etherType: 0x88b6 }))
    one.send(testFrame(i, 100 + i))
    two.send(testFrame(10 + i, 200 + i, { source: 2 }))
  }
  const parts = [first, ...(await readAll(stream))]
  assert.equal(parts.at(-1)?.droppedPackets, 0n)
  const path = join(directory.path, 'all.pcapng')
  writeFileSync(path, Buffer.concat(parts.map(({ data }) => data)))
  const expected = [0, 1, 2].flatMap(i => [testFrame(i, 100 + i), testFrame(10 + i, 200 + i, { source: 2 })])
  const hex = await tcpdumpHex(context.signal, path)
  assert.deepEqual([...hex].sort(), expected.map(frame => frame.toString('hex')).sort())
  const said = await output(context.signal, 'capinfos', '-M', path)
  assert.match(said, /pcapng/)
  assert.match(
    said,
    /Name = one[^]*Filter string = ether proto 0x88b5\n[^]*Comment = bridge br0, tap one, VLAN 10, filter/,
  )
  assert.match(said, /Name = two[^]*Comment = bridge br0, tap two, VLAN 20, filter ether proto 0x88b5\n/)
  assert.equal((await capinfos(context.signal, path)).get('Number of packets'), '6')
})

laneTest('a stream of a bridge has the VLAN of a frame as its tag, and one of a tap has its own', {}, async context => {
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  await api.createTap({ tap: 'one', vlan: 10 })
  const one = bed.use(openTap('one'))
  const untagged = testFrame(1, 100)
  const tagged = testFrame(2, 100, { vlan: 30 })
  const inVlan10 = Buffer.concat([untagged.subarray(0, 12), Buffer.from('8100000a', 'hex'), untagged.subarray(12)])
  const streams = [
    { of: { bridge: 'br0', filter: 'vlan 10' }, sent: untagged, seen: inVlan10 },
    { of: { taps: ['one'], filter: 'vlan 30' }, sent: tagged, seen: tagged },
  ]
  for (const { of, sent, seen } of streams) {
    using stream = api.streamCapture({ ...of, maxPackets: 1n })
    const data = dataOf(await repeating(() => one.send(sent), readAll(stream)))
    assert(data.includes(seen), data.toString('hex'))
  }
})

laneTest('what a slow reader loses is counted, and told in the stream', userspace, async context => {
  using directory = temporary()
  await using bed = await startCapturingOne(context.signal)
  const { api, one } = bed
  const stream = bed.use(api.streamCapture({ taps: ['one'] }))
  const parts = [await stream.next('the headers')]
  // More than the ring, the worker, the service and gRPC hold together, none of it read.
  const frames = 30_000
  for (let i = 0; i < frames; i++) {
    one.send(testFrame(i, 1_500))
    if (i % 500 === 0) await new Promise(resolve => setImmediate(resolve))
  }
  for (let dropped = 0n; dropped === 0n; ) {
    const part = await stream.next('a part that tells of losses')
    parts.push(part)
    dropped = part.droppedPackets
  }
  await api.destroyTap({ tap: 'one' })
  parts.push(...(await readAll(stream)))
  const path = join(directory.path, 'slow.pcapng')
  writeFileSync(path, Buffer.concat(parts.map(({ data }) => data)))
  const packets = Number((await capinfos(context.signal, path)).get('Number of packets'))
  const dropped = Number(parts.at(-1)?.droppedPackets)
  assert(packets < frames, `${packets} packets`)
  assert.equal(packets + dropped, frames)
  const drops = dropsTold(Buffer.concat(parts.map(({ data }) => data)))
  assert.deepEqual(drops, { beforePackets: dropped, atEnd: dropped })
})

/** What the blocks of a pcapng stream tell of lost packets: epb_dropcount, and isb_ifdrop of the last statistics. */
function dropsTold(stream: Buffer): { readonly beforePackets: number; readonly atEnd: number } {
  const told = { beforePackets: 0, atEnd: 0 }
  for (let at = 0; at < stream.length; at += stream.readUInt32LE(at + 4)) {
    const type = stream.readUInt32LE(at)
    const data = type === 6 ? (stream.readUInt32LE(at + 20) + 3) & ~3 : 0
    const options = type === 6 ? at + 28 + data : at + 20
    if (type === 6 && stream.readUInt16LE(options) === 4)
      told.beforePackets += Number(stream.readBigUInt64LE(options + 4))
    if (type === 5 && stream.readUInt16LE(options) === 5) told.atEnd = Number(stream.readBigUInt64LE(options + 4))
  }
  return told
}

laneTest('a stream that opens many taps holds up no other capture', userspace, async context => {
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  const taps = Array.from({ length: 32 }, (_, i) => `t${i}`)
  await api.createTaps({ taps: taps.map(tap => ({ ...blankTap, tap })) })
  const sender = bed.use(openTap('t0'))
  const id = await startCapture(api, ofTap('t0'))
  /** Opens a stream, and tells the longest while without a packet in the capture, as a share of the whole. */
  const longestShare = async () => {
    const beganAt = performance.now()
    let [seen, seenAt, longestMs] = [(await captureOf(api, id)).packets, beganAt, 0]
    let isOpen = false
    using stream = api.streamCapture({ taps })
    const opening = stream.next('the headers').finally(() => (isOpen = true))
    const sendAndSee = async () => {
      sender.send(testFrame(0, 100))
      const { packets } = await captureOf(api, id)
      if (packets === seen) return isOpen
      longestMs = Math.max(longestMs, performance.now() - seenAt)
      ;[seen, seenAt] = [packets, performance.now()]
      return isOpen
    }
    await Promise.all([until('the stream is open', sendAndSee, { everyMs: 0 }), opening])
    const endedAt = performance.now()
    return Math.max(longestMs, endedAt - seenAt) / (endedAt - beganAt)
  }
  // A busy machine may hold up one of them.
  const shares: number[] = []
  do shares.push(await longestShare())
  while (shares.length < 5 && Math.min(...shares) >= 0.5)
  assert(Math.min(...shares) < 0.5, `no packet for ${shares.join(', ')} of the time`)
})

laneTest('streams end with their taps or their reader, and leave nothing', userspace, async context => {
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  await api.createTap({ tap: 'one' })
  const stream = bed.use(api.streamCapture({ taps: ['one'] }))
  await stream.next('the headers')
  await api.destroyTap({ tap: 'one' })
  await readAll(stream)
  // Where the device stays, too, and beside one that goes on.
  createVethPair({ name: 'theirs' }, { name: 'eth0' }, bed.createContainer())
  await api.addTap({ tap: 'theirs' })
  await api.createTap({ tap: 'two' })
  const both = bed.use(api.streamCapture({ taps: ['theirs', 'two'], snapLen: 262_144 }))
  await both.next('the headers')
  const alone = bed.use(api.streamCapture({ taps: ['theirs'] }))
  await alone.next('the headers')
  await api.destroyTap({ tap: 'theirs' })
  await readAll(alone)
  const two = bed.use(openTap('two'))
  const large = Array.from({ length: 40 }, (_, i) => testFrame(i, 60_000, { etherType: 0x88b6 }))
  for (const frame of large) two.send(frame)
  const parts = [await both.next('packets')]
  await until('all of them', async () => {
    parts.push(await both.next('packets'))
    return dataOf(parts).length > 40 * 60_000
  })
  await api.destroyTap({ tap: 'two' })
  parts.push(...(await readAll(both)))
  const read = dataOf(parts)
  for (const frame of large) assert(read.includes(frame))
  assert(Math.max(...parts.map(({ data }) => data.length)) <= 2 ** 20)
  const bridge = api.streamCapture({ bridge: 'br0' })
  await bridge.next('the headers')
  assert.equal((await bed.ovs.select('Mirror')).length, 1)
  assert.deepEqual((await api.getBridge({ bridge: 'br0' })).bridge?.mirrors, [])
  bridge[Symbol.dispose]()
  await until('mirror and port are gone', async () => {
    const links = linkNames().filter(name => name.startsWith('cap-'))
    return (await bed.ovs.select('Mirror')).length + links.length === 0
  })
  const refusals = {
    'no target': [{}, 'INVALID_ARGUMENT', 'INVALID_FIELD', ['taps']],
    'taps and a bridge': [{ taps: ['one'], bridge: 'br0' }, 'INVALID_ARGUMENT', 'INVALID_FIELD', ['taps']],
    'a name that is none': [{ taps: ['one', 'a b'] }, 'INVALID_ARGUMENT', 'INVALID_FIELD', ['taps']],
    'a bad bridge': [{ bridge: 'a b' }, 'INVALID_ARGUMENT', 'INVALID_FIELD', ['bridge']],
    'a bad filter': [{ bridge: 'br0', filter: 'ip and' }, 'INVALID_ARGUMENT', 'INVALID_FIELD', ['filter']],
    'an unknown tap': [{ taps: ['one'] }, 'NOT_FOUND', 'TAP_NOT_FOUND', []],
  } as const
  for (const [what, [request, code, reason, fields]] of Object.entries(refusals)) {
    using refused = api.streamCapture({ ...request, taps: 'taps' in request ? [...request.taps] : [] })
    const error = await refusalOf(what, refused.next())
    assert.deepEqual([error.code, error.reason, Object.keys(error.violations)], [code, reason, fields], what)
  }
})

laneTest('the command line hands packets to tcpdump', userspace, async context => {
  await using bed = await startCapturingOne(context.signal)
  const { one } = bed
  const capture = [...ovsBridged, 'capture', '--server', bed.service.address]
  const line = quoted(...capture, '--tap', 'one', '--filter', 'ether proto 0x88b5', '-c', '3', '-w', '-')
  const printed = output(context.signal, 'bash', '-euo', 'pipefail', '-c', `${line} | tcpdump -nnxx -r -`)
  await sendUntil(one, printed)
  const packets = (await printed).match(/ethertype Unknown \(0x88b5\), length 100/g)
  assert.equal(packets?.length, 3)
})

laneTest(
  'the command line ends with its reader, refuses an unknown tap, and lists what there is',
  userspace,
  async context => {
    await using bed = await startCapturingOne(context.signal)
    const { one } = bed
    const [program, ...args] = [...ovsBridged, 'capture', '--server', bed.service.address]
    const line = `${quoted(program, ...args)} --tap one -w - | head -c 400 | wc -c`
    const head = output(context.signal, 'bash', '-c', line)
    await sendUntil(one, head)
    assert.equal((await head).trim(), '400')
    const unknown = await command(context.signal, program, ...args, '--tap', 'nobody', '-w', '-')
    assert.deepEqual(unknown, { status: 1, stdout: '', stderr: 'ovs-bridged capture: no tap is named nobody\n' })
    const listed = await command(context.signal, program, ...args, '--list')
    assert.deepEqual(listed, { status: 0, stdout: 'bridge\tbr0\teach frame once\ntap\tone\tbr0, VLAN 0\n', stderr: '' })
  },
)

laneTest('Wireshark finds the taps and captures them through its extcap interface', userspace, async context => {
  using directory = temporary()
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  await api.createTap({ tap: 'one', vlan: 7 })
  const one = bed.use(openTap('one'))
  const script = fileURLToPath(new URL('examples/wireshark/ovs-bridged', checkout))
  // The path of the checkout may have a space in it, which would split it.
  const called = join(directory.path, 'called')
  writeFileSync(called, `#!/bin/sh\nexec ${quoted(...ovsBridged)} "$@"\n`, { mode: 0o755 })
  const env = ['env', `OVS_BRIDGED=${called}`, `OVS_BRIDGED_SERVER=${bed.service.address}`, script]
  const extcap = (...args: readonly string[]) => output(context.signal, env[0] ?? '', ...env.slice(1), ...args)
  const interfaces = await extcap('--extcap-interfaces', '--extcap-version=4.0')
  assert.match(interfaces, /^extcap \{version=[^}]+\}/)
  assert.match(interfaces, /^interface \{value=ovs-tap-one\}\{display=Open vSwitch tap one \(br0, VLAN 7\)\}$/m)
  assert.match(interfaces, /^interface \{value=ovs-bridge-br0\}/m)
  const dlts = await extcap('--extcap-dlts', '--extcap-interface', 'ovs-tap-one')
  assert.equal(dlts, 'dlt {number=1}{name=EN10MB}{display=Ethernet}\n')
  assert.equal(await extcap('--extcap-config', '--extcap-interface', 'ovs-tap-one'), '')

  const fifo = join(directory.path, 'fifo')
  await output(context.signal, 'mkfifo', fifo)
  const args = ['--capture', '--extcap-interface', 'ovs-tap-one', '--extcap-capture-filter', 'ether proto 0x88b5']
  const [program, ...rest] = [...env, ...args, '--fifo', fifo]
  const capturing = spawn(program, rest, { stdio: ['ignore', 'ignore', 'inherit'] })
  const ended = new Promise<number | null>(resolve => capturing.once('close', resolve))
  const read: Buffer[] = []
  // To open it here would hold up the end of this process as long as nobody writes to it.
  const reading = spawn('cat', [fifo], { stdio: ['ignore', 'pipe', 'inherit'] })
  reading.stdout.on('data', (chunk: Buffer) => read.push(chunk))
  const readToEnd = new Promise(resolve => reading.once('close', resolve))
  bed.use({ [Symbol.dispose]: () => [capturing, reading].forEach(child => void child.kill('SIGKILL')) })
  await sendUntil(
    one,
    until('packets have come', () => Buffer.concat(read).length > 1_000, patience),
  )
  // Wireshark ends the capture by a signal.
  capturing.kill('SIGTERM')
  assert.equal(await ended, 0)
  await readToEnd
  const path = join(directory.path, 'read.pcapng')
  writeFileSync(path, Buffer.concat(read))
  const hex = await tcpdumpHex(context.signal, path)
  assert(hex.length > 1 && hex.every(packet => packet.slice(24, 28) === '88b5'))
})
