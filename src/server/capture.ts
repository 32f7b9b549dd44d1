import type { Captures } from '../bridge/capture.js'
import { type Capture, type CaptureSpec, defaultSnapLen, parseSnapLen, type SnapLen } from '../bridge/capture-run.js'
import type { CaptureTarget } from '../bridge/capture-target.js'
import { type PortName, parseBridgeName, parsePortName } from '../bridge/names.js'
import type { Duration } from '../gen/google/protobuf/duration.js'
import {
  Capture as CaptureMessage,
  type CaptureRing,
  CaptureState,
  type ListCapturesRequest,
  type ListCapturesResponse,
  type StartCaptureRequest,
  type StartCaptureResponse,
  type StopAllCapturesRequest,
  type StopAllCapturesResponse,
  type StopCaptureRequest,
  type StopCaptureResponse,
  type StreamCaptureRequest,
  type StreamCaptureResponse,
} from '../gen/ovs/bridge/v1/capture.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import { parsePathBelow } from '../lib/safe-file.js'
import type { StreamHandler, UnaryHandler } from './call.js'
import { maybe, optional, takeFields } from './fields.js'
import { page } from './page.js'
import { duration, durationMs, timestamp } from './time.js'

export function startCaptureOn(captures: Captures): UnaryHandler<StartCaptureRequest, StartCaptureResponse> {
  return async (request, call) => {
    const snapLen = takenSnapLen(request.snapLen)
    const fields = takeFields({
      ...targetField(request.target),
      file_name: optional(request.fileName, parsePathBelow),
      filter: parseFilter(request.filter),
      snap_len: snapLen,
      max_packets: parseLimit(request.maxPackets),
      max_bytes: parseMaxBytes(request.maxBytes),
      max_duration: maybe(request.maxDuration, parseMaxDurationMs),
      ring: maybe(request.ring, ring => parseRing(ring, snapLen.ok ? snapLen.value : defaultSnapLen)),
    })
    const spec: CaptureSpec = {
      target: 'tap' in fields ? fields.tap : 'bridge' in fields ? fields.bridge : fields.target,
      fileName: fields.file_name,
      filter: fields.filter,
      snapLen: fields.snap_len,
      maxPackets: fields.max_packets,
      maxBytes: fields.max_bytes,
      maxDurationMs: fields.max_duration,
      ring: fields.ring,
    }
    return { capture: captureMessage(await captures.start(spec, call)) }
  }
}

export function stopCaptureOn(captures: Captures): UnaryHandler<StopCaptureRequest, StopCaptureResponse> {
  return async ({ id }, call) => ({ capture: captureMessage(await captures.stop(id, call)) })
}

export function stopAllCapturesOn(captures: Captures): UnaryHandler<StopAllCapturesRequest, StopAllCapturesResponse> {
  return async (_request, call) => {
    const ended = await captures.stopAll(call)
    return { captures: ended.sort((a, b) => a.id - b.id).map(captureMessage) }
  }
}

export function listCapturesOn(captures: Captures): UnaryHandler<ListCapturesRequest, ListCapturesResponse> {
  return async request => {
    const wanted = captures.list().filter(({ state }) => !request.running || state === 'running')
    // Names of one length, so that their order is that of the ids.
    const nameOf = ({ id }: CaptureMessage) => String(id).padStart(10, '0')
    const bytesOf = (capture: CaptureMessage) => CaptureMessage.encode(capture).finish().length
    const { items, nextPageToken } = page(wanted.map(captureMessage), nameOf, request, bytesOf)
    return { captures: [...items], nextPageToken }
  }
}

export function streamCaptureOn(captures: Captures): StreamHandler<StreamCaptureRequest, StreamCaptureResponse> {
  return async function* (request, call) {
    const { taps, bridge, filter, snap_len, max_packets } = takeFields({
      taps: parseTaps(request),
      bridge: optional(request.bridge, parseBridgeName),
      filter: parseFilter(request.filter),
      snap_len: takenSnapLen(request.snapLen),
      max_packets: parseLimit(request.maxPackets),
    })
    const targets =
      bridge === undefined ? taps.map(tap => ({ kind: 'tap', tap }) as const) : [{ kind: 'bridge', bridge } as const]
    const spec = { targets, filter, snapLen: snap_len, maxPackets: max_packets }
    for await (const { bytes, dropped } of captures.stream(spec, call)) {
      yield { data: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), droppedPackets: BigInt(dropped) }
    }
  }
}

type TargetField =
  | { tap: Parsed<CaptureTarget> }
  | { bridge: Parsed<CaptureTarget> }
  | { target: Parsed<CaptureTarget> }

/** The field that is given; what lacks without one is the oneof. */
function targetField(target: StartCaptureRequest['target']): TargetField {
  switch (target?.$case) {
    case 'tap':
      return { tap: tapTarget(target.value) }
    case 'bridge':
      return { bridge: bridgeTarget(target.value) }
    case undefined:
      return { target: refused('is missing: a tap or a bridge') }
  }
}

/** Each once; none beside a bridge, and some without. */
function parseTaps({ taps, bridge }: StreamCaptureRequest): Parsed<PortName[]> {
  if (bridge !== '' && taps.length > 0) return refused('are given, and a bridge; give one or the other')
  if (bridge === '' && taps.length === 0) return refused('are missing, and so is a bridge')
  const names: PortName[] = []
  for (const tap of new Set(taps)) {
    const name = parsePortName(tap)
    if (!name.ok) return name
    names.push(name.value)
  }
  return parsed(names)
}

function tapTarget(name: string): Parsed<CaptureTarget> {
  const tap = parsePortName(name)
  return tap.ok ? parsed({ kind: 'tap', tap: tap.value }) : tap
}

function bridgeTarget(name: string): Parsed<CaptureTarget> {
  const bridge = parseBridgeName(name)
  return bridge.ok ? parsed({ kind: 'bridge', bridge: bridge.value }) : bridge
}

/**
 * libpcap has no limits of its own. Its optimiser takes a hundred milliseconds for a hundred ports or hosts, as long for half as many
 * ranges of ports, and twenty seconds for a thousand, in which no other capture's packets are taken; and its recursion comes to
 * the end of any stack. So a range, `1-9`, counts as three.
 */
const maxFilterChars = 16_384
const maxFilterWords = 256

function parseFilter(text: string): Parsed<string> {
  if (text.includes('\0')) return refused('holds a NUL')
  if (text.length > maxFilterChars) return refused(`is longer than ${maxFilterChars} characters`)
  const words = text.match(/[\w.:]+|\|\||&&|[-+*/%&|^!<>=]/g)?.length ?? 0
  return words > maxFilterWords
    ? refused(`has ${words} words and operators; the most is ${maxFilterWords}`)
    : parsed(text)
}

function takenSnapLen(value: number): Parsed<SnapLen> {
  return value === 0 ? parsed(defaultSnapLen) : parseSnapLen(value)
}

/** 0: none. */
function parseLimit(value: bigint): Parsed<number | undefined> {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) return refused('is larger than 2^53')
  return parsed(value === 0n ? undefined : Number(value))
}

/** The headers of pcap-savefile(5): of the file and of a packet. */
const headersBytes = 24 + 16

function parseMaxBytes(value: bigint): Parsed<number | undefined> {
  const bytes = parseLimit(value)
  if (!bytes.ok || bytes.value === undefined || bytes.value > headersBytes) return bytes
  return refused(`is ${value}; the headers alone are ${headersBytes}`)
}

/** The longest that a timer takes. */
const mostDurationMs = 2 ** 31 - 1

function parseMaxDurationMs(value: Duration): Parsed<number> {
  const ms = durationMs(value)
  if (ms < 1) return refused(`is ${ms} ms; the least is 1 ms`)
  return ms > mostDurationMs ? refused('is longer than 24 days') : parsed(ms)
}

const mostFiles = 99_999

function parseRing({ files, fileBytes }: CaptureRing, snapLen: SnapLen): Parsed<NonNullable<CaptureSpec['ring']>> {
  if (files < 1 || files > mostFiles) return refused(`has ${files} files; it has 1 to ${mostFiles}`)
  const bytes = parseLimit(fileBytes)
  if (!bytes.ok) return refused(`has files of a size that ${bytes.reason}`)
  const least = headersBytes + snapLen
  if (bytes.value === undefined || bytes.value < least)
    return refused(`has files of ${fileBytes} bytes; the least is ${least}, for one packet of snap_len`)
  return parsed({ files, fileBytes: bytes.value })
}

const states = {
  running: CaptureState.RUNNING,
  stopped: CaptureState.STOPPED,
  failed: CaptureState.FAILED,
} satisfies Record<Capture['state'], CaptureState>

function captureMessage(capture: Capture): CaptureMessage {
  const { target, ring } = capture
  return CaptureMessage.fromPartial({
    id: capture.id,
    target: target.kind === 'tap' ? { $case: 'tap', value: target.tap } : { $case: 'bridge', value: target.bridge },
    fileName: capture.fileName,
    filter: capture.filter,
    snapLen: capture.snapLen,
    state: states[capture.state],
    endReason: capture.endReason,
    packets: capture.packets,
    fileBytes: capture.fileBytes,
    droppedPackets: capture.dropped,
    startTime: timestamp(capture.startMs),
    endTime: capture.endMs === undefined ? undefined : timestamp(capture.endMs),
    maxPackets: BigInt(capture.maxPackets ?? 0),
    maxBytes: BigInt(capture.maxBytes ?? 0),
    maxDuration: capture.maxDurationMs === undefined ? undefined : duration(capture.maxDurationMs),
    ring: ring && { files: ring.files, fileBytes: BigInt(ring.fileBytes) },
  })
}
