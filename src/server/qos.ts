import type { Call } from '../bridge/call.js'
import type { Host } from '../bridge/host.js'
import { type PortName, parsePortName } from '../bridge/names.js'
import { maxPolicedKbps } from '../bridge/policing.js'
import { BridgeError } from '../bridge/problem.js'
import { getQos, policeTap, removeQos, type TapQos, updateQos } from '../bridge/qos.js'
import {
  delayMissing,
  fieldsMissingDelay,
  formatQos,
  noQos,
  parseQosField,
  type Qos,
  type QosChange,
  type QosField,
  qosFields,
  qosGrammar,
} from '../bridge/qos-parse.js'
import {
  type GetQosRequest,
  type GetQosResponse,
  QosDirection,
  Qos as QosMessage,
  type RemoveQosRequest,
  type RemoveQosResponse,
  TapQos as TapQosMessage,
  type UpdateQosRequest,
  type UpdateQosResponse,
} from '../gen/ovs/bridge/v1/qos.js'
import { assertNever } from '../lib/assert-never.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import type { UnaryHandler } from './call.js'
import { type Field, maybe, nested, type TakenFields, takeFields } from './fields.js'

export function updateQosOn(host: Host): UnaryHandler<UpdateQosRequest, UpdateQosResponse> {
  return async (request, call) => {
    const fields = changeFields(request.qos)
    const isPoliced = request.direction === QosDirection.FROM_ENDPOINT
    const {
      tap,
      direction,
      qos: change,
    } = takeFields({
      tap: parsePortName(request.tap),
      direction: parseDirection(request.direction),
      qos: nested(isPoliced ? { ...fields, rate: policedRate(request.qos?.rate) } : fields, changeOf),
    })
    if (direction !== 'from-endpoint') {
      return { qos: tapQosMessage(await updateQos(host, tap, change, request.replace, call)) }
    }
    const { bitsPerSecond, ...others } = change
    if (Object.values(others).some(value => value > 0)) throw rateAlone()
    const policed = bitsPerSecond ?? (request.replace ? 0 : undefined)
    const qos = policed === undefined ? getQos(host, tap, call) : policeTap(host, tap, policed / 1e3, call)
    return { qos: tapQosMessage(await qos) }
  }
}

export function getQosOn(host: Host): UnaryHandler<GetQosRequest, GetQosResponse> {
  return async (request, call) => {
    const { tap } = takeFields({ tap: parsePortName(request.tap) })
    return { qos: tapQosMessage(await getQos(host, tap, call)) }
  }
}

export function removeQosOn(host: Host): UnaryHandler<RemoveQosRequest, RemoveQosResponse> {
  return async (request, call) => {
    const { tap, direction } = takeFields({
      tap: parsePortName(request.tap),
      direction: parseDirection(request.direction),
    })
    return { qos: tapQosMessage(await removal(host, tap, direction, call)) }
  }
}

async function removal(host: Host, tap: PortName, direction: Direction, call: Call): Promise<TapQos> {
  switch (direction) {
    case 'both':
      return await removeQos(host, tap, call)
    case 'to-endpoint':
      return await updateQos(host, tap, noQos, true, call)
    case 'from-endpoint':
      return await policeTap(host, tap, 0, call)
    default:
      return assertNever(direction)
  }
}

type ChangeFields = Readonly<Record<QosField, Parsed<number | undefined>>>

function changeFields(message: QosMessage | undefined): ChangeFields {
  const of = (field: QosField) => maybe(message?.[field], text => parseQosField(field, text))
  return {
    rate: of('rate'),
    loss: of('loss'),
    delay: of('delay'),
    jitter: of('jitter'),
    duplicate: of('duplicate'),
    corrupt: of('corrupt'),
    reorder: of('reorder'),
  }
}

/** A QoS that stands alone: what makes no sense together is refused. */
export function parseQos(message: QosMessage | undefined): Field<Qos> {
  if (message === undefined) return parsed(noQos)
  return nested(wholeFields(message), taken => ({ ...noQos, ...changeOf(taken) }))
}

function wholeFields(message: QosMessage): ChangeFields {
  const fields = changeFields(message)
  const { delay, jitter, reorder } = fields
  if (!delay.ok) return fields
  const missing = fieldsMissingDelay({
    ...noQos,
    delayNs: delay.value ?? 0,
    jitterNs: valueOf(jitter),
    reorderPercent: valueOf(reorder),
  })
  return { ...fields, ...Object.fromEntries(missing.map(field => [field, refused(delayMissing)])) }
}

function valueOf(field: Parsed<number | undefined>): number {
  return (field.ok ? field.value : undefined) ?? 0
}

function changeOf(taken: TakenFields<ChangeFields>): QosChange {
  const change: { -readonly [K in keyof Qos]?: number } = {}
  for (const field of qosFields) {
    const value = taken[field]
    if (value !== undefined) change[qosGrammar[field].key] = value
  }
  return change
}

/** `both` is what UNSPECIFIED means where that makes sense. */
type Direction = 'both' | 'to-endpoint' | 'from-endpoint'

function parseDirection(direction: QosDirection): Parsed<Direction> {
  switch (direction) {
    case QosDirection.UNSPECIFIED:
      return parsed('both')
    case QosDirection.TO_ENDPOINT:
      return parsed('to-endpoint')
    case QosDirection.FROM_ENDPOINT:
      return parsed('from-endpoint')
    default:
      return refused(`is ${direction}, which is no QosDirection`)
  }
}

/** A rate that Open vSwitch can police: it counts kilobits. */
function policedRate(text: string | undefined): Parsed<number | undefined> {
  const rate = maybe(text, value => parseQosField('rate', value))
  if (!rate.ok || rate.value === undefined) return rate
  if (rate.value % 1e3 !== 0) return refused(`is ${JSON.stringify(text)}; from the endpoint it is in whole kbit`)
  if (rate.value > maxPolicedKbps * 1e3)
    return refused(`is ${JSON.stringify(text)}, more than 34gbit from the endpoint`)
  return rate
}

function rateAlone(): BridgeError {
  const message = 'what an endpoint sends can only be limited in rate; set the rest on the taps that it sends to'
  return new BridgeError({ kind: 'unsupported', reason: 'UNSUPPORTED', message })
}

/** Absent when there is none. */
export function qosMessage(qos: Qos): QosMessage | undefined {
  const words = formatQos(qos)
  return Object.keys(words).length === 0 ? undefined : QosMessage.fromPartial(words)
}

function tapQosMessage({ tap, toEndpoint, fromEndpoint, timesRestored }: TapQos): TapQosMessage {
  return TapQosMessage.fromPartial({
    tap,
    toEndpoint: QosMessage.fromPartial(formatQos(toEndpoint.wanted)),
    actualToEndpoint: QosMessage.fromPartial(formatQos(toEndpoint.actual)),
    fromEndpoint: QosMessage.fromPartial(formatQos(fromEndpoint.wanted)),
    actualFromEndpoint: QosMessage.fromPartial(formatQos(fromEndpoint.actual)),
    timesRestored: BigInt(timesRestored),
  })
}
