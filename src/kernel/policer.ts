import { constants } from 'node:os'
import type { Policer } from './link.js'
import {
  decodePolicer,
  encodeIngressFilterDump,
  encodeIngressQdisc,
  RTM_GETTFILTER,
  RTM_NEWTFILTER,
} from './netlink/policer-message.js'
import { RTM_DELQDISC } from './netlink/qdisc-message.js'
import { consented, type WorkerContext } from './worker-context.js'

export function getPolicer({ route }: WorkerContext, index: number): Policer | undefined {
  const answer = route.dump({ type: RTM_GETTFILTER, payload: encodeIngressFilterDump(index) })
  const { messages } = consented(answer, { operation: 'getPolicer' })
  for (const { type, payload } of messages) {
    const policer = type === RTM_NEWTFILTER ? decodePolicer(payload) : undefined
    if (policer !== undefined) return policer
  }
  return undefined
}

/** What the kernel answers when there is none. */
const notThere: ReadonlySet<number> = new Set([constants.errno.ENOENT, constants.errno.EINVAL])

export function removeIngressQdisc({ route }: WorkerContext, index: number): undefined {
  const answer = route.request({ type: RTM_DELQDISC, payload: encodeIngressQdisc(index) })
  if (!notThere.has(answer.errno)) consented(answer, { operation: 'removeIngressQdisc' })
  return undefined
}
