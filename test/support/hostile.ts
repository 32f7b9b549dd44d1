import { readFileSync } from 'node:fs'
import { createFileRegistry, type DescField, type DescMessage, fromBinary, ScalarType } from '@bufbuild/protobuf'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import { type Client, status } from '@grpc/grpc-js'
import { checkout } from './readme.js'

/** A method of the service, with what it takes. */
export interface Target {
  readonly name: string
  readonly path: string
  readonly streams: boolean
  readonly input: DescMessage
}

/** All RPCs of the contract as it was compiled. */
export function targets(): readonly Target[] {
  const set = fromBinary(FileDescriptorSetSchema, readFileSync(new URL('src/gen/descriptors.binpb', checkout)))
  const service = createFileRegistry(set).getService('ovs.bridge.v1.BridgeService')
  if (service === undefined) throw new Error('the descriptors lack the service')
  return service.methods.map(({ name, methodKind, input }) => ({
    name,
    path: `/${service.typeName}/${name}`,
    streams: methodKind === 'server_streaming',
    input,
  }))
}

const callTimeoutMs = 60_000

/** The code that one message is answered with; a stream that says something is OK and is left. */
export async function send(client: Client, { path, streams }: Target, message: Buffer): Promise<string> {
  const pass = (bytes: Buffer) => bytes
  const options = { deadline: Date.now() + callTimeoutMs }
  const code = await new Promise<status>(resolve => {
    if (!streams) {
      client.makeUnaryRequest(path, pass, pass, message, options, error => resolve(error?.code ?? status.OK))
      return
    }
    const stream = client.makeServerStreamRequest(path, pass, pass, message, options)
    stream.once('data', () => {
      resolve(status.OK)
      stream.cancel()
    })
    stream.on('error', () => {}).on('status', ({ code }) => resolve(code))
  })
  return status[code] ?? ''
}

type Random = () => number

const pick = <T>(random: Random, choices: readonly [T, ...T[]]): T =>
  choices[Math.floor(random() * choices.length)] ?? choices[0]

/** Text that is right now and then, so that a call gets past the first check; and text that somebody may have meant ill by. */
const texts = [
  ...[
    'br0',
    'br0',
    'hb1',
    'ht0',
    'ht1',
    'ht2',
    'lo',
    'ovs-netdev',
    'ovs-system',
    'all',
    '10mbit',
    '100ms',
    '5%',
    '0.5',
  ],
  ...['02:00:00:00:00:01', 'ff:ff:ff:ff:ff:ff', '10.0.0.1', '::1', '224.0.0.1', 'stp_enable=true', 'other_config:a=b'],
  ...['', ' ', '.', '..', '/', '../../etc/passwd', '/proc/1/ns/net', '/dev/zero', '-', '--help', '$(reboot)', '`id`'],
  ...[
    'a\0b',
    '\n',
    '\x1b[2J',
    'ü'.repeat(8),
    '\u202e',
    '{"op":"abort"}',
    '["uuid","x"]',
    '%n%s',
    "'; --",
    '=',
    'a=',
    '=a',
  ],
  ...['x'.repeat(15), 'x'.repeat(16), 'x'.repeat(70_000), '9'.repeat(400), '-1', '1e308', 'NaN', '0x7fffffffffffffff'],
] as const

/** What a field of some name could well hold: with it some calls change something, and then meet what others made. */
const plausible: readonly (readonly [RegExp, readonly [string, ...string[]]])[] = [
  [/bridge/, ['br0', 'hb1', '']],
  [/^(?:tap|taps|name|members|source|destination)$/, ['ht0', 'ht1', 'ht2', 'ht3']],
  [/mac/, ['02:00:00:00:00:01', '']],
  [/ip$/, ['10.0.0.1', 'fe80::1']],
  [/rate|delay|loss/, ['10mbit', '10', '1%', '']],
  [/./, ['', 'x']],
]

const numbers = [
  0n,
  1n,
  10n,
  4095n,
  4096n,
  65_535n,
  1n << 31n,
  (1n << 32n) - 1n,
  1n << 53n,
  (1n << 63n) - 1n,
  (1n << 64n) - 1n,
] as const

const doubles = [
  0,
  -0,
  1,
  -1,
  0.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  1e308,
  5e-324,
] as const

/** An encoded message that is well formed, or nearly, or not at all. */
export function hostileMessage(input: DescMessage, random: Random): Buffer {
  if (random() < 0.05) return noise(random, Math.floor(random() * 200))
  const encoded = encodeMessage(input, random, 0)
  if (random() < 0.8 || encoded.length === 0) return encoded
  const spoilt = Buffer.from(encoded)
  const at = Math.floor(random() * spoilt.length)
  switch (pick(random, ['cut', 'flip', 'append', 'nest'])) {
    case 'cut':
      return spoilt.subarray(0, at)
    case 'flip':
      spoilt[at] = Math.floor(random() * 256)
      return spoilt
    case 'append':
      return Buffer.concat([spoilt, noise(random, 20)])
    default:
      // Groups within groups (wire type 3), which a reader skips by recursion.
      return Buffer.concat([spoilt, Buffer.alloc(50_000, 0x7b)])
  }
}

/** A message all of whose texts are `text`, those of its parts too. */
export function messageOfText(message: DescMessage, text: string): Buffer {
  return Buffer.concat(
    message.fields.map(field => {
      if (field.message !== undefined) return lengthDelimited(field.number, messageOfText(field.message, text))
      return field.scalar === ScalarType.STRING ? lengthDelimited(field.number, Buffer.from(text)) : Buffer.alloc(0)
    }),
  )
}

function noise(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)))
}

const maxDepth = 6

function encodeMessage(message: DescMessage, random: Random, depth: number): Buffer {
  const likely = random() < 0.5 ? 0.3 : 0.8
  const fields = message.fields.filter(() => random() < likely)
  return Buffer.concat(fields.flatMap(field => encodeField(field, random, depth)))
}

function encodeField(field: DescField, random: Random, depth: number): readonly Buffer[] {
  const times = field.fieldKind === 'list' || field.fieldKind === 'map' ? pick(random, [0, 1, 2, 5, 100]) : 1
  return Array.from({ length: depth > 0 ? Math.min(times, 5) : times }, () => encodeOne(field, random, depth))
}

function encodeOne(field: DescField, random: Random, depth: number): Buffer {
  if (field.fieldKind === 'map') {
    const entry = [lengthDelimited(1, text('key', random)), lengthDelimited(2, text('value', random))]
    return lengthDelimited(field.number, Buffer.concat(entry))
  }
  if (field.message !== undefined) {
    const body = depth < maxDepth ? encodeMessage(field.message, random, depth + 1) : Buffer.alloc(0)
    return lengthDelimited(field.number, body)
  }
  switch (field.scalar) {
    case ScalarType.STRING:
      return lengthDelimited(field.number, text(field.name, random))
    case ScalarType.BYTES:
      return lengthDelimited(field.number, noise(random, Math.floor(random() * 100)))
    case ScalarType.DOUBLE: {
      const value = Buffer.alloc(8)
      value.writeDoubleLE(pick(random, doubles))
      return Buffer.concat([tag(field.number, 1), value])
    }
    default:
      return Buffer.concat([
        tag(field.number, 0),
        varint(random() < 0.6 ? BigInt(Math.floor(random() * 4)) : pick(random, numbers)),
      ])
  }
}

/** Mostly UTF-8. */
function text(field: string, random: Random): Buffer {
  if (random() < 0.7) {
    const [, choices] = plausible.find(([names]) => names.test(field)) ?? []
    if (choices !== undefined) return Buffer.from(pick(random, choices))
  }
  return random() < 0.03 ? Buffer.from([0xff, 0xc0, 0x80, 0xed, 0xa0, 0x80]) : Buffer.from(pick(random, texts))
}

function lengthDelimited(number: number, body: Buffer): Buffer {
  return Buffer.concat([tag(number, 2), varint(BigInt(body.length)), body])
}

function tag(number: number, wireType: number): Buffer {
  return varint(BigInt(number * 8 + wireType))
}

/** Base 128, the least significant group first; the highest bit says that another follows. */
function varint(value: bigint): Buffer {
  const bytes: number[] = []
  let left = value
  for (; left > 127n; left >>= 7n) bytes.push(Number(left & 127n) | 128)
  return Buffer.from([...bytes, Number(left)])
}
