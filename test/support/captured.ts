import { createHash } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Capture, CaptureState, type StartCaptureRequest } from '../../src/gen/ovs/bridge/v1/capture.js'
import { command, output } from './command.js'
import { type FrameSocket, openTap } from './frame-socket.js'
import { linkNames } from './namespace.js'
import type { Api } from './rpc.js'
import { type ServedTestbed, startServedTestbed } from './service.js'
import type { Testbed } from './testbed.js'
import { until } from './until.js'

/** The service, with a capture directory of the test's own, beside which it may put things. */
export interface CapturingTestbed extends ServedTestbed {
  readonly directory: string
}

export async function startCapturing(signal: AbortSignal, ...flags: readonly string[]): Promise<CapturingTestbed> {
  const parent = mkdtempSync(join(tmpdir(), 'captures-'))
  const directory = join(parent, 'here')
  const bed = await startServedTestbed(signal, '--capture-dir', directory, ...flags)
  bed.use({ [Symbol.dispose]: () => rmSync(parent, { recursive: true }) })
  return { ...bed, directory }
}

/** As {@link startCapturing}, with a tap `one` whose far end the test has. */
export async function startCapturingOne(
  signal: AbortSignal,
  ...flags: readonly string[]
): Promise<CapturingTestbed & { readonly one: FrameSocket }> {
  const bed = await startCapturing(signal, ...flags)
  try {
    await bed.api.createTap({ tap: 'one' })
    return { ...bed, one: bed.use(openTap('one')) }
  } catch (error) {
    await bed[Symbol.asyncDispose]()
    throw error
  }
}

/** A packet as a pcap file has it. */
export interface CapturedPacket {
  readonly bytes: Buffer
  /** On the wire. */
  readonly originalBytes: number
}

/**
 * Reads a pcap file of this machine's byte order with nanoseconds (pcap-savefile(5)); throws unless it ends with a
 * whole packet.
 */
export function readPcap(path: string): readonly CapturedPacket[] {
  const file = readFileSync(path)
  if (file.readUInt32LE(0) !== 0xa1b23c4d) throw new Error(`${path} is no pcap file with nanoseconds`)
  const packets: CapturedPacket[] = []
  let at = 24
  while (at < file.length) {
    const end = at + 16 + file.readUInt32LE(at + 8)
    if (end > file.length) throw new Error(`${path} ends within its packet ${packets.length}`)
    packets.push({ bytes: file.subarray(at + 16, end), originalBytes: file.readUInt32LE(at + 12) })
    at = end
  }
  return packets
}

/** Stands for the bytes of a packet where they differ, without filling pages with them. */
export function digest(bytes: Uint8Array): string {
  return `${bytes.length} bytes ${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}`
}

/** The packets of a file as `tcpdump -r` prints them, whole, in hexadecimal. Fails when tcpdump finds fault with the file. */
export async function tcpdumpHex(signal: AbortSignal, path: string): Promise<readonly string[]> {
  const text = await output(signal, 'tcpdump', '-nn', '-xx', '-r', path)
  return text
    .split(/^(?=\S)/m)
    .filter(packet => packet !== '')
    .map(packet =>
      [...packet.matchAll(/^\t0x[\da-f]+: {2}([\da-f ]+?)(?: {2}|$)/gm)].map(([, hex = '']) => hex).join(''),
    )
    .map(hex => hex.replaceAll(' ', ''))
}

/** What capinfos says of a file, line by line. Fails when it finds fault with the file. */
export async function capinfos(signal: AbortSignal, path: string): Promise<ReadonlyMap<string, string>> {
  const { status, stdout, stderr } = await command(signal, 'capinfos', '-M', path)
  if (status !== 0) throw new Error(`capinfos ended with ${status}: ${stderr}`)
  return new Map(stdout.split('\n').map(line => [line.split(':')[0] ?? '', line.slice(line.indexOf(':') + 1).trim()]))
}

/** What a tap's capture is asked for with. */
export function ofTap(tap: string): Pick<StartCaptureRequest, 'target'> {
  return { target: { $case: 'tap', value: tap } }
}

/** As {@link ofTap}, of a bridge. */
export function ofBridge(bridge: string): Pick<StartCaptureRequest, 'target'> {
  return { target: { $case: 'bridge', value: bridge } }
}

/** Starts a capture and gives its id. */
export async function startCapture(api: Api, request: Partial<StartCaptureRequest>): Promise<number> {
  const { capture } = await api.startCapture(request)
  if (capture?.state !== CaptureState.RUNNING) throw new Error(`a capture was not started but is ${capture?.state}`)
  return capture.id
}

/** Waits until a capture has ended by itself. */
export async function hasEnded(api: Api, id: number): Promise<Capture> {
  return await until(`capture ${id} has ended`, async () => {
    const capture = await captureOf(api, id)
    return capture.endTime === undefined ? undefined : capture
  })
}

/** The capture of that id. */
export async function captureOf(api: Api, id: number): Promise<Capture> {
  const { captures } = await api.listCaptures()
  const found = captures.find(capture => capture.id === id)
  if (found === undefined) throw new Error(`no capture ${id} is listed`)
  return found
}

/** Waits until a capture has written so many packets. */
export async function hasPackets(api: Api, id: number, packets: number): Promise<Capture> {
  return await until(`capture ${id} has ${packets} packets`, async () => {
    const capture = await captureOf(api, id)
    return capture.packets >= BigInt(packets) ? capture : undefined
  })
}

/** Waits until no port, device or mirror of a capture is left. */
export async function nothingIsLeft(bed: Testbed): Promise<void> {
  await until('no port, device or mirror of a capture is left', async () => {
    const ports = (await bed.ovs.select('Port')).filter(row => String(row['name']).startsWith('cap-'))
    const links = linkNames().filter(name => name.startsWith('cap-'))
    return ports.length + links.length + (await bed.ovs.select('Mirror')).length === 0
  })
}

/** An Ethernet frame of exactly `bytes`, to everybody; its number makes it unlike any other. */
export function testFrame(
  number: number,
  bytes: number,
  { etherType = 0x88b5, source = 1, vlan }: { etherType?: number; source?: number; vlan?: number } = {},
): Buffer {
  const frame = Buffer.alloc(bytes, number)
  frame.write('ffffffffffff', 0, 'hex')
  frame.writeUIntBE(0x020000000000 + source, 6, 6)
  let at = 12
  if (vlan !== undefined) {
    frame.writeUInt16BE(0x8100, at)
    frame.writeUInt16BE(vlan, at + 2)
    at += 4
  }
  frame.writeUInt16BE(etherType, at)
  frame.writeUInt32BE(number, at + 2)
  return frame
}
