import { BridgeServiceService } from '../gen/ovs/bridge/v1/service.js'
import { remembered } from '../lib/remembered.js'

/** ovs.bridge.v1.BridgeService as it is served: a message that goes to many subscribers is encoded once. */
export function bridgeServiceDefinition(): typeof BridgeServiceService {
  const { watchTaps, watchTapStats } = BridgeServiceService
  return {
    ...BridgeServiceService,
    watchTaps: { ...watchTaps, responseSerialize: remembered(watchTaps.responseSerialize) },
    watchTapStats: { ...watchTapStats, responseSerialize: remembered(watchTapStats.responseSerialize) },
  }
}
