import type { Host } from '../bridge/host.js'
import { parsePortName } from '../bridge/names.js'
import { BridgeError } from '../bridge/problem.js'
import { getQos, type TapQos, updateQos } from '../bridge/qos.js'
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
import { type Parsed, parsed, refused } from '../lib/parsed.js'
import type { UnaryHandler } from './call.js'
import { maybe, takeFields } from './fields.js'

export function updateQosOn(host: Host): UnaryHandler<UpdateQosRequest, UpdateQosResponse> {
  return async (request, call) => {
    const { tap, ...rest } = takeFields({
      tap: parsePortName(request.tap),
      direction: parseDirection(request.direction),
      ...changeFields(request.qos),
    })
    return { qos: tapQosMessage(await updateQos(host, tap, changeOf(rest), request.replace, call)) }
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
    const { tap } = takeFields({
      tap: parsePortName(request.tap),
      direction: parseDirection(request.direction),
    })
    return { qos: tapQosMessage(await updateQos(host, tap, noQos, true, call)) }
  }
}

type FieldPath = `qos.${QosField}`

const paths = {
  rate: 'qos.rate',
  loss: 'qos.loss',
  delay: 'qos.delay',
  jitter: 'qos.jitter',
  duplicate: 'qos.duplicate',
  corrupt: 'qos.corrupt',
  reorder: 'qos.reorder',
} satisfies Record<QosField, FieldPath>

type ChangeFields = Readonly<Record<FieldPath, Parsed<number | undefined>>>

/** The fields of a change, by their paths in the request. */
function changeFields(message: QosMessage | undefined): ChangeFields {
  const of = (field: QosField) => maybe(message?.[field], text => parseQosField(field, text))
  return {
    'qos.rate': of('rate'),
    'qos.loss': of('loss'),
    'qos.delay': of('delay'),
    'qos.jitter': of('jitter'),
    'qos.duplicate': of('duplicate'),
    'qos.corrupt': of('corrupt'),
    'qos.reorder': of('reorder'),
  }
}

/** As {@link changeFields}, of a QoS that stands alone: what makes no sense together is refused. */
export function wholeQosFields(message: QosMessage | undefined): ChangeFields {
  const fields = changeFields(message)
  const { 'qos.delay': delay, 'qos.jitter': jitter, 'qos.reorder': reorder } = fields
  if (!delay.ok) return fields
  const missing = fieldsMissingDelay({
    ...noQos,
    delayNs: delay.value ?? 0,
    jitterNs: valueOf(jitter),
    reorderPercent: valueOf(reorder),
  })
  return { ...fields, ...Object.fromEntries(missing.map(field => [paths[field], refused(delayMissing)])) }
}

function valueOf(field: Parsed<number | undefined>): number {
  return (field.ok ? field.value : undefined) ?? 0
}

type TakenChange = Readonly<Partial<Record<FieldPath, number | undefined>>>

function changeOf(taken: TakenChange): QosChange {
  const change: { -readonly [K in keyof Qos]?: number } = {}
  for (const field of qosFields) {
    const value = taken[paths[field]]
    if (value !== undefined) change[qosGrammar[field].key] = value
  }
  return change
}

/** What {@link wholeQosFields} has let through. */
export function wholeQosOf(taken: TakenChange): Qos {
  return { ...noQos, ...changeOf(taken) }
}

function parseDirection(direction: QosDirection): Parsed<QosDirection> {
  switch (direction) {
    case QosDirection.UNSPECIFIED:
    case QosDirection.TO_ENDPOINT:
      return parsed(direction)
    case QosDirection.FROM_ENDPOINT: {
      const message = 'what an endpoint sends cannot be shaped; set QoS on the taps that it sends to'
      throw new BridgeError({ kind: 'unsupported', reason: 'UNSUPPORTED', message })
    }
    default:
      return refused(`is ${direction}, which is no QosDirection`)
  }
}

/** Absent when there is none. */
export function qosMessage(qos: Qos): QosMessage | undefined {
  const words = formatQos(qos)
  return Object.keys(words).length === 0 ? undefined : QosMessage.fromPartial(words)
}

function tapQosMessage({ tap, wanted, actual, timesRestored }: TapQos): TapQosMessage {
  return TapQosMessage.fromPartial({
    tap,
    toEndpoint: QosMessage.fromPartial(formatQos(wanted)),
    actualToEndpoint: QosMessage.fromPartial(formatQos(actual)),
    timesRestored: BigInt(timesRestored),
  })
}
