import { type DriftKind, reportDrift } from '../bridge/drift.js'
import type { Host } from '../bridge/host.js'
import { parseBridgeName } from '../bridge/names.js'
import {
  Drift,
  DriftKind as DriftKindMessage,
  type ReportDriftRequest,
  ReportDriftResponse,
} from '../gen/ovs/bridge/v1/drift.js'
import type { UnaryHandler } from './call.js'
import { optional, takeFields } from './fields.js'

export function reportDriftOn(host: Host): UnaryHandler<ReportDriftRequest, ReportDriftResponse> {
  return async (request, call) => {
    const { bridge } = takeFields({ bridge: optional(request.bridge, parseBridgeName) })
    const drifts = await reportDrift(host, bridge, call)
    return ReportDriftResponse.fromPartial({
      drifts: drifts.map(({ bridge = '', kind, ...drift }) =>
        Drift.fromPartial({ ...drift, bridge, kind: kinds[kind] }),
      ),
    })
  }
}

const kinds = {
  'missing-device': DriftKindMessage.MISSING_DEVICE,
  'missing-port': DriftKindMessage.MISSING_PORT,
  'wrong-tag': DriftKindMessage.WRONG_TAG,
  'wrong-qdisc': DriftKindMessage.WRONG_QDISC,
  'dead-ifindex': DriftKindMessage.DEAD_IFINDEX,
  'interface-error': DriftKindMessage.INTERFACE_ERROR,
  'no-route': DriftKindMessage.NO_ROUTE,
  'device-down': DriftKindMessage.DEVICE_DOWN,
} satisfies Record<DriftKind, DriftKindMessage>
