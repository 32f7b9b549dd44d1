import { checkOvs } from '../bridge/check.js'
import type { Host } from '../bridge/host.js'
import type { CheckOvsRequest, CheckOvsResponse } from '../gen/ovs/bridge/v1/check.js'
import type { UnaryHandler } from './call.js'
import { healthMessage } from './convert.js'

export function checkOvsOn(host: Host): UnaryHandler<CheckOvsRequest, CheckOvsResponse> {
  return async (_request, call) => healthMessage(await checkOvs(host, call))
}
