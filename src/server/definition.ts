import { BridgeServiceService } from '../gen/ovs/bridge/v1/service.js'
import { remembered } from '../lib/remembered.js'

/** Name of an RPC, `WatchTaps`, by its path as gRPC has it. */
export function methodOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

/** The RPCs that answer with a stream, by their names. */
export const streamingMethods: readonly string[] = Object.values(BridgeServiceService).flatMap(
  ({ path, responseStream }) => (responseStream ? [methodOf(path)] : []),
)

/** ovs.bridge.v1.BridgeService as it is served: a message that goes to many subscribers is encoded once. */
export function bridgeServiceDefinition(): typeof BridgeServiceService {
  const { watchTaps, watchAddresses, watchTapStats } = BridgeServiceService
  return {
    ...BridgeServiceService,
    watchTaps: { ...watchTaps, responseSerialize: remembered(watchTaps.responseSerialize) },
    watchAddresses: { ...watchAddresses, responseSerialize: remembered(watchAddresses.responseSerialize) },
    watchTapStats: { ...watchTapStats, responseSerialize: remembered(watchTapStats.responseSerialize) },
  }
}
