import type { Host } from '../bridge/host.js'
import { parseBridgeName } from '../bridge/names.js'
import {
  addNetflowWriter,
  createNetflow,
  destroyNetflow,
  formatIpv4,
  getNetflow,
  type Netflow,
  type NetflowWriter,
  parseWriterTarget,
  removeNetflowWriter,
  setNetflowTimeout,
  type WriterFormat,
  writerName,
} from '../bridge/netflow.js'
import type { ObservedFlow } from '../bridge/netflow-collectors.js'
import type { Duration } from '../gen/google/protobuf/duration.js'
import {
  type AddNetflowWriterRequest,
  type AddNetflowWriterResponse,
  type CreateNetflowRequest,
  type CreateNetflowResponse,
  type DestroyNetflowRequest,
  type DestroyNetflowResponse,
  type Flow as FlowMessage,
  type GetNetflowRequest,
  type GetNetflowResponse,
  NetflowFormat,
  Netflow as NetflowMessage,
  NetflowWriter as NetflowWriterMessage,
  type RemoveNetflowWriterRequest,
  type RemoveNetflowWriterResponse,
  type SetNetflowTimeoutRequest,
  type SetNetflowTimeoutResponse,
  type WatchFlowsRequest,
  type WatchFlowsResponse,
} from '../gen/ovs/bridge/v1/netflow.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import type { StreamHandler, UnaryHandler } from './call.js'
import { maybe, optional, takeFields } from './fields.js'
import { timestamp } from './time.js'

const usualTimeoutS = 10
const mostTimeoutS = 86_400

export function createNetflowOn(host: Host): UnaryHandler<CreateNetflowRequest, CreateNetflowResponse> {
  return async (request, call) => {
    const { bridge = host.defaultBridge, active_timeout = usualTimeoutS } = takeFields({
      bridge: optional(request.bridge, parseBridgeName),
      active_timeout: maybe(request.activeTimeout, parseTimeoutS),
    })
    const spec = { bridge, activeTimeoutS: active_timeout, endWithLastWriter: request.endWithLastWriter }
    return { netflow: netflowMessage(await createNetflow(host, spec, call)) }
  }
}

export function getNetflowOn(host: Host): UnaryHandler<GetNetflowRequest, GetNetflowResponse> {
  return async request => {
    const { bridge } = takeFields({ bridge: parseBridgeName(request.bridge) })
    return { netflow: netflowMessage(getNetflow(host, bridge)) }
  }
}

export function setNetflowTimeoutOn(host: Host): UnaryHandler<SetNetflowTimeoutRequest, SetNetflowTimeoutResponse> {
  return async (request, call) => {
    const { bridge = host.defaultBridge, active_timeout } = takeFields({
      bridge: optional(request.bridge, parseBridgeName),
      active_timeout:
        request.activeTimeout === undefined ? refused('is missing') : parseTimeoutS(request.activeTimeout),
    })
    return { netflow: netflowMessage(await setNetflowTimeout(host, bridge, active_timeout, call)) }
  }
}

export function destroyNetflowOn(host: Host): UnaryHandler<DestroyNetflowRequest, DestroyNetflowResponse> {
  return async (request, call) => {
    const { bridge } = takeFields({ bridge: parseBridgeName(request.bridge) })
    return { netflow: netflowMessage(await destroyNetflow(host, bridge, call)) }
  }
}

export function addNetflowWriterOn(host: Host): UnaryHandler<AddNetflowWriterRequest, AddNetflowWriterResponse> {
  return async (request, call) => {
    const { gzip } = request
    const {
      bridge = host.defaultBridge,
      writer: target,
      format,
    } = takeFields({
      bridge: optional(request.bridge, parseBridgeName),
      writer: parseWriterTarget(request.writer),
      format: parseFormat(request.format),
    })
    return { netflow: netflowMessage(await addNetflowWriter(host, bridge, { target, format, gzip }, call)) }
  }
}

export function removeNetflowWriterOn(
  host: Host,
): UnaryHandler<RemoveNetflowWriterRequest, RemoveNetflowWriterResponse> {
  return async (request, call) => {
    const { bridge, writer } = takeFields({
      bridge: parseBridgeName(request.bridge),
      writer: parseWriterTarget(request.writer),
    })
    const { netflow, ended } = await removeNetflowWriter(host, bridge, writerName(writer), call)
    return { netflow: netflowMessage(netflow), ended }
  }
}

/** Some 2 MB of each subscriber that reads slowly. */
const maxQueuedFlows = 10_000
const maxFlowsPerMessage = 1_000
const heartbeatMs = 15_000

export function watchFlowsOn({ netflows }: Host): StreamHandler<WatchFlowsRequest, WatchFlowsResponse> {
  return async function* (request, { signal }) {
    const { bridge } = takeFields({ bridge: optional(request.bridge, parseBridgeName) })
    const includes = (observed: ObservedFlow) => bridge === undefined || observed.bridge === bridge
    const options = { includes, maxQueued: maxQueuedFlows, maxPortion: maxFlowsPerMessage, heartbeatMs, signal }
    for await (const { items, lost } of netflows.flows.read(options)) {
      yield { flows: items.map(flowMessage), lost: BigInt(lost) }
    }
  }
}

function parseTimeoutS({ seconds, nanos }: Duration): Parsed<number> {
  if (nanos !== 0) return refused('is not of whole seconds')
  const timeoutS = Number(seconds)
  return timeoutS >= 1 && timeoutS <= mostTimeoutS
    ? parsed(timeoutS)
    : refused(`is ${timeoutS} s; it may be 1 to ${mostTimeoutS} s`)
}

const formats = { raw: NetflowFormat.RAW, ascii: NetflowFormat.ASCII } satisfies Record<WriterFormat, NetflowFormat>

function parseFormat(format: NetflowFormat): Parsed<WriterFormat> {
  switch (format) {
    case NetflowFormat.UNSPECIFIED:
    case NetflowFormat.RAW:
      return parsed('raw')
    case NetflowFormat.ASCII:
      return parsed('ascii')
    default:
      return refused(`is ${format}, which is no NetflowFormat`)
  }
}

function netflowMessage(netflow: Netflow): NetflowMessage {
  const { bridge, collector = '', endWithLastWriter, counters, writers } = netflow
  return NetflowMessage.fromPartial({
    bridge,
    collector,
    activeTimeout: { seconds: BigInt(netflow.activeTimeoutS), nanos: 0 },
    endWithLastWriter,
    flows: BigInt(counters?.flows ?? 0),
    bytes: BigInt(counters?.octets ?? 0),
    packets: BigInt(counters?.packets ?? 0),
    monitorBytes: BigInt(counters?.datagramBytes ?? 0),
    monitorRecords: BigInt(counters?.flows ?? 0),
    datagrams: BigInt(counters?.datagrams ?? 0),
    lostFlows: BigInt(counters?.lostFlows ?? 0),
    malformedDatagrams: BigInt(counters?.malformedDatagrams ?? 0),
    foreignDatagrams: BigInt(counters?.foreignDatagrams ?? 0),
    writers: writers.map(writerMessage),
  })
}

function writerMessage({ spec, counters }: NetflowWriter): NetflowWriterMessage {
  return NetflowWriterMessage.fromPartial({
    name: writerName(spec.target),
    format: formats[spec.format],
    gzip: spec.gzip,
    flows: BigInt(counters?.flows ?? 0),
    bytes: BigInt(counters?.bytes ?? 0),
    droppedFlows: BigInt(counters?.droppedFlows ?? 0),
    queuedFlows: BigInt(counters?.queuedFlows ?? 0),
    problem: counters?.problem ?? '',
  })
}

function flowMessage({ bridge, input = '', output = '', flow }: ObservedFlow): FlowMessage {
  return {
    bridge,
    input,
    output,
    source: formatIpv4(flow.source),
    destination: formatIpv4(flow.destination),
    sourcePort: flow.sourcePort,
    destinationPort: flow.destinationPort,
    protocol: flow.protocol,
    packets: BigInt(flow.packets),
    bytes: BigInt(flow.octets),
    startTime: timestamp(flow.firstMs),
    endTime: timestamp(flow.lastMs),
    tcpFlags: flow.tcpFlags,
    tos: flow.tos,
  }
}
