import assert from 'node:assert/strict'
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { faultOfFilter, parseSnapLen } from '../../src/capture/index.js'
import { CaptureState, type StartCaptureRequest } from '../../src/gen/ovs/bridge/v1/capture.js'
import {
  capinfos,
  captureOf,
  hasEnded,
  hasPackets,
  ofBridge,
  ofTap,
  readPcap,
  startCapture,
  startCapturing,
  startCapturingOne,
  tcpdumpHex,
  testFrame,
} from '../support/captured.js'
import { laneTest } from '../support/lane.js'
import { refusalOf, stateOf } from '../support/refusal.js'
import { startService } from '../support/service.js'
import { until } from '../support/until.js'

// Files, quotas and refusals do not depend on the datapath.
const userspace = { only: 'userspace' } as const

/** Of a frame of 100 bytes in a file. */
const recordBytes = 116

laneTest('packets, bytes and time end a capture, and its file is never larger than asked', {}, async context => {
  await using bed = await startCapturingOne(context.signal)
  const { api, directory, one } = bed
  const byPackets = await startCapture(api, { ...ofTap('one'), fileName: 'packets', maxPackets: 7n })
  const byBytes = await startCapture(api, {
    ...ofTap('one'),
    fileName: 'bytes',
    maxBytes: BigInt(24 + 5 * recordBytes),
  })
  const inBetween = await startCapture(api, {
    ...ofTap('one'),
    fileName: 'between',
    maxBytes: BigInt(24 + 5 * recordBytes + 50),
  })
  const byTime = await startCapture(api, { ...ofTap('one'), maxDuration: { seconds: 0n, nanos: 200_000_000 } })
  const unlimited = await startCapture(api, ofTap('one'))
  for (let i = 0; i < 20; i++) one.send(testFrame(i, 100))
  const ends = [
    [byPackets, 7, 'max_packets is reached'],
    [byBytes, 5, 'max_bytes is reached'],
    [inBetween, 5, 'max_bytes is reached'],
  ] as const
  for (const [id, packets, endReason] of ends) {
    const ended = await hasEnded(api, id)
    assert.deepEqual([ended.state, ended.endReason, ended.packets], [CaptureState.STOPPED, endReason, BigInt(packets)])
    assert.equal(ended.fileBytes, BigInt(24 + packets * recordBytes))
    const hex = await tcpdumpHex(context.signal, join(directory, ended.fileName))
    assert.deepEqual(
      hex,
      Array.from({ length: packets }, (_, i) => testFrame(i, 100).toString('hex')),
    )
  }
  const timed = await hasEnded(api, byTime)
  assert.deepEqual([timed.state, timed.endReason], [CaptureState.STOPPED, 'max_duration has passed'])
  assert.equal(timed.fileName, `one-${byTime}.pcap`)
  assert.equal((await hasPackets(api, unlimited, 20)).state, CaptureState.RUNNING)
  // One that has ended stays as it is.
  assert.deepEqual((await api.stopCapture({ id: byTime })).capture, timed)
})

laneTest(
  'a ring keeps the newest files, loses no packet on the way, and writes over nothing',
  userspace,
  async context => {
    await using bed = await startCapturingOne(context.signal)
    const { api, directory, one } = bed
    const ring = { files: 3, fileBytes: BigInt(24 + 10 * recordBytes) }
    const id = await startCapture(api, { ...ofTap('one'), fileName: 'ring.pcap', snapLen: 100, ring })
    for (let i = 0; i < 95; i++) one.send(testFrame(i, 100))
    await hasPackets(api, id, 95)
    const { capture } = await api.stopCapture({ id })
    const names = ['ring-00008.pcap', 'ring-00009.pcap', 'ring-00010.pcap']
    assert.deepEqual(readdirSync(directory).sort(), names)
    const numbers = names.flatMap(name => readPcap(join(directory, name)).map(({ bytes }) => bytes.readUInt32BE(14)))
    assert.deepEqual(
      numbers,
      Array.from({ length: 25 }, (_, i) => 70 + i),
    )
    assert.equal(capture?.fileBytes, BigInt(3 * 24 + 25 * recordBytes))
    assert.equal(capture?.fileName, 'ring.pcap')

    writeFileSync(join(directory, 'other-00002.pcap'), 'mine')
    const other = await startCapture(api, { ...ofTap('one'), fileName: 'other.pcap', snapLen: 100, ring })
    for (let i = 0; i < 11; i++) one.send(testFrame(i, 100))
    const ended = await hasEnded(api, other)
    const reason = 'other-00002.pcap could not be made (EEXIST)'
    assert.deepEqual([ended.state, ended.endReason, ended.packets], [CaptureState.FAILED, reason, 10n])
    assert.equal(readPcap(join(directory, 'other-00001.pcap')).length, 10)
    assert.equal(readFileSync(join(directory, 'other-00002.pcap'), 'utf8'), 'mine')

    const third = await startCapture(api, { ...ofTap('one'), fileName: 'third', snapLen: 100, ring })
    for (let i = 0; i < 11; i++) one.send(testFrame(i, 100))
    await hasPackets(api, third, 11)
    renameSync(join(directory, 'third-00001'), join(directory, 'kept'))
    writeFileSync(join(directory, 'third-00001'), 'mine')
    for (let i = 11; i < 41; i++) one.send(testFrame(i, 100))
    await hasPackets(api, third, 41)
    await api.stopCapture({ id: third })
    assert.deepEqual(
      readdirSync(directory).filter(name => /^(kept|third-.*)$/.test(name)),
      ['kept', 'third-00001', 'third-00003', 'third-00004', 'third-00005'],
    )
    assert.equal(readFileSync(join(directory, 'third-00001'), 'utf8'), 'mine')
    assert.equal(readPcap(join(directory, 'kept')).length, 10)
  },
)

laneTest(
  'a ring gives no file away before the next packet, nor for one that max_bytes forbids',
  userspace,
  async context => {
    await using bed = await startCapturingOne(context.signal)
    const { api, directory, one } = bed
    const fileBytes = BigInt(24 + 10 * recordBytes)
    const ring = { ...ofTap('one'), snapLen: 100, ring: { files: 1, fileBytes } }
    const stopped = await startCapture(api, { ...ring, fileName: 'stopped' })
    const limited = await startCapture(api, { ...ring, fileName: 'limited', maxBytes: fileBytes })
    for (let i = 0; i < 10; i++) one.send(testFrame(i, 100))
    await hasPackets(api, stopped, 10)
    await hasPackets(api, limited, 10)
    await api.stopCapture({ id: stopped })
    const ended = await hasEnded(api, limited)
    assert.deepEqual([ended.endReason, ended.fileBytes], ['max_bytes is reached', fileBytes])
    assert.deepEqual(readdirSync(directory).sort(), ['limited-00001', 'stopped-00001'])
    for (const name of readdirSync(directory)) assert.equal(readPcap(join(directory, name)).length, 10, name)
  },
)

laneTest('what was removed meanwhile counts before the quota ends a capture', userspace, async context => {
  await using bed = await startCapturingOne(context.signal, '--capture-quota', '64KiB')
  const { api, directory, one } = bed
  mkdirSync(directory)
  writeFileSync(join(directory, 'older'), Buffer.alloc(60 * 1024))
  const id = await startCapture(api, ofTap('one'))
  for (let i = 0; i < 3; i++) one.send(testFrame(i, 1_000))
  await hasPackets(api, id, 3)
  rmSync(join(directory, 'older'))
  for (let i = 3; i < 80; i++) one.send(testFrame(i, 1_000))
  const ended = await hasEnded(api, id)
  assert.equal(ended.state, CaptureState.FAILED)
  const packets = Math.floor((64 * 1024 - 24) / 1_016)
  assert.deepEqual([ended.packets, ended.fileBytes], [BigInt(packets), BigInt(24 + packets * 1_016)])
  assert.equal(readPcap(join(directory, ended.fileName)).length, packets)
})

laneTest('no more is captured at the same time than --max-captures, streams among it', userspace, async context => {
  await using bed = await startCapturing(context.signal, '--max-captures', '3')
  const { api, directory } = bed
  for (const tap of ['one', 'two']) await api.createTap({ tap })
  const refuses = async (what: string, asked: Promise<unknown>) => {
    const refused = await refusalOf(what, asked)
    assert.deepEqual([refused.code, refused.reason], ['RESOURCE_EXHAUSTED', 'EXHAUSTED'], what)
    assert.match(refused.message, /of the 3 taps and bridges that --max-captures allows/)
  }
  // What was begun in vain takes no place.
  const away = refusalOf('a folder that is none', api.startCapture({ ...ofTap('one'), fileName: 'none/x' }))
  assert.equal((await away).reason, 'FILE_REFUSED')
  const id = await startCapture(api, ofTap('one'))
  const stream = bed.use(api.streamCapture({ taps: ['one', 'two'] }))
  await stream.next('the headers')
  await refuses('a fourth', api.startCapture(ofTap('two')))
  await refuses('a bridge', api.startCapture(ofBridge('br0')))
  await api.stopCapture({ id })
  await refuses('two at once', api.streamCapture({ taps: ['one', 'two'] }).next())
  await startCapture(api, ofTap('two'))
  stream[Symbol.dispose]()
  await until('places of the stream', () =>
    startCapture(api, ofTap('one')).then(
      () => true,
      () => false,
    ),
  )
  await startCapture(api, ofTap('one'))
  await refuses('a fourth again', api.startCapture(ofTap('two')))
  assert.equal(readdirSync(directory).length, 4)
})

laneTest('the quota ends what would exceed it, and then nothing begins', userspace, async context => {
  await using bed = await startCapturingOne(context.signal, '--capture-quota', '64KiB')
  const { api, directory, one } = bed
  mkdirSync(join(directory, 'older'), { recursive: true })
  writeFileSync(join(directory, 'older', 'file'), Buffer.alloc(32 * 1024))
  const first = await startCapture(api, ofTap('one'))
  const second = await startCapture(api, ofTap('one'))
  for (let i = 0; i < 40; i++) one.send(testFrame(i, 1_000))
  for (const id of [first, second]) {
    const ended = await hasEnded(api, id)
    assert.deepEqual(
      [ended.state, ended.endReason],
      [CaptureState.FAILED, 'the files in the capture directory have reached --capture-quota'],
    )
    await capinfos(context.signal, join(directory, ended.fileName))
  }
  const [a, b] = await Promise.all([captureOf(api, first), captureOf(api, second)])
  const written = Number(a.fileBytes + b.fileBytes)
  assert(written <= 32 * 1024 && written > 32 * 1024 - 1_016, `${written} bytes`)
  writeFileSync(join(directory, 'older', 'more'), Buffer.alloc(32 * 1024 - written))
  // What others write is seen a little later; until then a capture ends with the next packet.
  const refused = await until('a refusal', () => refusalOf('a capture', api.startCapture(ofTap('one'))))
  assert.deepEqual([refused.code, refused.reason], ['RESOURCE_EXHAUSTED', 'EXHAUSTED'])
  await until('none goes on', async () => {
    one.send(testFrame(0, 1_000))
    return (await api.listCaptures({ running: true })).captures.length === 0
  })
})

interface Refusal {
  readonly request: Partial<StartCaptureRequest>
  readonly code: string
  readonly reason: string
  /** Of the one field that is at fault. */
  readonly field?: readonly [name: string, description: RegExp]
}

const invalid = { code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELD' } as const

const refusals: Readonly<Record<string, Refusal>> = {
  'no target': { request: {}, ...invalid, field: ['target', /missing/] },
  'a bad tap': { request: ofTap('a/b'), ...invalid, field: ['tap', /contains/] },
  'a bad bridge': { request: ofBridge('a/b'), ...invalid, field: ['bridge', /contains/] },
  'an unknown tap': { request: ofTap('nobody'), code: 'NOT_FOUND', reason: 'TAP_NOT_FOUND' },
  'an unknown bridge': { request: ofBridge('nowhere'), code: 'NOT_FOUND', reason: 'BRIDGE_NOT_FOUND' },
  'a bad filter': {
    request: { ...ofTap('one'), filter: 'tcp prot 80' },
    ...invalid,
    field: ['filter', /^can't parse filter expression: syntax error$/],
  },
  'a bad filter of a bridge': {
    request: { ...ofBridge('br0'), filter: 'ip and' },
    ...invalid,
    field: ['filter', /syntax error/],
  },
  'a name that would be looked up': {
    request: { ...ofTap('one'), filter: 'tcp port http and not (src host 10.0.0.1 or router.example)' },
    ...invalid,
    field: ['filter', /^"router.example" would have to be looked up/],
  },
  'a filter that would take minutes, and the stack': {
    request: { ...ofTap('one'), filter: `port 1${'||2'.repeat(128)}` },
    ...invalid,
    field: ['filter', /has 258 words and operators; the most is 256/],
  },
  'ranges of ports, which take twice as long': {
    request: { ...ofTap('one'), filter: `portrange 1-2${'||3-4'.repeat(64)}` },
    ...invalid,
    field: ['filter', /^has 260 words and operators/],
  },
  'signs upon signs': {
    request: { ...ofTap('one'), filter: `${'-'.repeat(8_000)}len < 0` },
    ...invalid,
    field: ['filter', /^has 8003 words and operators/],
  },
  'a directory upwards': { request: { ...ofTap('one'), fileName: '../x' }, ...invalid, field: ['file_name', /"\.\."/] },
  'a directory upwards within': {
    request: { ...ofTap('one'), fileName: 'sub/../../x' },
    ...invalid,
    field: ['file_name', /"\.\."/],
  },
  'an absolute path': {
    request: { ...ofTap('one'), fileName: '/tmp/x' },
    ...invalid,
    field: ['file_name', /absolute/],
  },
  'a directory that is a link': {
    request: { ...ofTap('one'), fileName: 'away/x' },
    code: 'FAILED_PRECONDITION',
    reason: 'FILE_REFUSED',
  },
  'a directory that is none': {
    request: { ...ofTap('one'), fileName: 'taken/x' },
    code: 'FAILED_PRECONDITION',
    reason: 'FILE_REFUSED',
  },
  'a directory that is missing': {
    request: { ...ofTap('one'), fileName: 'none/x' },
    code: 'FAILED_PRECONDITION',
    reason: 'FILE_REFUSED',
  },
  'a file that is a link': {
    request: { ...ofTap('one'), fileName: 'dangling' },
    code: 'ALREADY_EXISTS',
    reason: 'FILE_EXISTS',
  },
  'a file that exists': {
    request: { ...ofTap('one'), fileName: 'taken' },
    code: 'ALREADY_EXISTS',
    reason: 'FILE_EXISTS',
  },
  'a bridge to a file that exists': {
    request: { ...ofBridge('br0'), fileName: 'taken' },
    code: 'ALREADY_EXISTS',
    reason: 'FILE_EXISTS',
  },
  'too long packets': { request: { ...ofTap('one'), snapLen: 262_145 }, ...invalid, field: ['snap_len', /262144/] },
  'a file without room for a packet': {
    request: { ...ofTap('one'), maxBytes: 40n },
    ...invalid,
    field: ['max_bytes', /the headers alone are 40/],
  },
  'a ring of no files': {
    request: { ...ofTap('one'), ring: { files: 0, fileBytes: 1_000_000n } },
    ...invalid,
    field: ['ring', /1 to 99999/],
  },
  'a ring of tiny files': {
    request: { ...ofTap('one'), ring: { files: 2, fileBytes: 1_639n } },
    ...invalid,
    field: ['ring', /the least is 1640/],
  },
  'no time': {
    request: { ...ofTap('one'), maxDuration: { seconds: 0n, nanos: 0 } },
    ...invalid,
    field: ['max_duration', /1 ms/],
  },
}

laneTest('what is refused makes no file, no port and no mirror', userspace, async context => {
  await using bed = await startCapturing(context.signal)
  const { api, directory } = bed
  await api.createTap({ tap: 'one' })
  mkdirSync(directory)
  const outside = join(directory, '..', 'outside')
  mkdirSync(outside)
  symlinkSync(outside, join(directory, 'away'))
  symlinkSync(join(outside, 'x'), join(directory, 'dangling'))
  writeFileSync(join(directory, 'taken'), 'mine')
  const files = readdirSync(directory)
  const links = (await stateOf(bed)).links
  for (const [what, { request, code, reason, field }] of Object.entries(refusals)) {
    const error = await refusalOf(what, api.startCapture(request))
    assert.deepEqual([error.code, error.reason], [code, reason], `${what}: ${error.message}`)
    if (field !== undefined) assert.match(error.violations[field[0]] ?? '', field[1], what)
    assert.deepEqual(readdirSync(directory), files, what)
    assert.deepEqual(readdirSync(outside), [], what)
    assert.deepEqual((await stateOf(bed)).links, links, what)
    assert.deepEqual(await bed.ovs.select('Mirror'), [], what)
  }
  const unknown = await refusalOf('an unknown id', api.stopCapture({ id: 99 }))
  assert.deepEqual([unknown.code, unknown.reason], ['NOT_FOUND', 'CAPTURE_NOT_FOUND'])
  assert.deepEqual((await api.listCaptures()).captures, [])
})

laneTest('filters as long as they may be are compiled, and many at once', userspace, async context => {
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  await api.createTap({ tap: 'one' })
  const longest = `port 1${'||2'.repeat(127)}`
  await api.stopCapture({ id: await startCapture(api, { ...ofTap('one'), filter: longest }) })
  const snapLen = parseSnapLen(100)
  assert(snapLen.ok)
  // koffi takes 256 calls.
  const faults = await Promise.all(Array.from({ length: 300 }, () => faultOfFilter('ip', snapLen.value)))
  assert.deepEqual(new Set(faults), new Set([undefined]))
  // What else reaches the compiler, such as all addresses of a name.
  assert.equal(await faultOfFilter(`port 1${'||2'.repeat(400)}`, snapLen.value), undefined)
})

laneTest('ids go on after a restart, and a list of captures has pages', userspace, async context => {
  await using bed = await startCapturing(context.signal)
  const { api } = bed
  await api.createTap({ tap: 'one' })
  const [epoch] = await bed.ovs.select('Open_vSwitch')
  assert.equal(await startCapture(api, ofTap('one')), 1)
  assert.equal(await startCapture(api, ofTap('one')), 2)
  assert.equal((await bed.ovs.select('Open_vSwitch'))[0]?.['next_cfg'], epoch?.['next_cfg'])
  await api.stopCapture({ id: 1 })
  const { captures, nextPageToken } = await api.listCaptures({ pageSize: 1 })
  assert.deepEqual(
    captures.map(({ id }) => id),
    [1],
  )
  const rest = await api.listCaptures({ pageToken: nextPageToken })
  assert.deepEqual(
    rest.captures.map(({ id }) => id),
    [2],
  )
  await bed.service[Symbol.asyncDispose]()
  const next = bed.use(await startService(bed))
  assert.equal(await startCapture(next.api, ofTap('one')), 3)
})
