import { constants } from 'node:os'
import { KernelError } from './errors.js'
import type { Qdisc, QdiscSpec } from './link.js'
import { NLM_F_CREATE, NLM_F_ECHO, NLM_F_REPLACE } from './netlink/message.js'
import {
  decodeRootQdisc,
  encodeQdisc,
  encodeQdiscQuery,
  ourHandles,
  RTM_DELQDISC,
  RTM_GETQDISC,
  RTM_NEWQDISC,
} from './netlink/qdisc-message.js'
import type { NetlinkAnswer } from './netlink/socket.js'
import { consented, refusalOf, type WorkerContext } from './worker-context.js'

export function setQdisc(context: WorkerContext, index: number, spec: QdiscSpec, afresh: boolean): undefined {
  const { route } = context
  const where = { operation: 'setQdisc' }
  const flags = NLM_F_CREATE | NLM_F_REPLACE
  const set = () => route.request({ type: RTM_NEWQDISC, flags, payload: encodeQdisc(index, spec) })
  if (afresh) removeQdisc(context, index)
  let answer = set()
  // Our handle is somebody else's, at the root or below it, and a handle keeps its kind.
  if (answer.errno === constants.errno.EINVAL && getQdisc(context, index)?.ours === false) {
    route.request({ type: RTM_DELQDISC, payload: encodeQdiscQuery(index) })
    answer = set()
  }
  if (answer.errno === constants.errno.ENOENT) {
    throw new KernelError({
      ...where,
      kind: 'no-qdisc',
      qdisc: spec.kind,
      refusal: refusalOf(answer.errno, answer.text),
    })
  }
  consented(answer, where)
  return undefined
}

/** What the kernel answers when the root is not the qdisc that was named. */
const notThere: ReadonlySet<number> = new Set([constants.errno.ENOENT, constants.errno.EINVAL])

export function removeQdisc({ route }: WorkerContext, index: number): undefined {
  for (const handle of Object.values(ourHandles)) {
    const answer = route.request({ type: RTM_DELQDISC, payload: encodeQdiscQuery(index, handle) })
    if (!notThere.has(answer.errno)) consented(answer, { operation: 'removeQdisc' })
  }
  return undefined
}

export function getQdisc({ route }: WorkerContext, index: number): Qdisc | undefined {
  // Without the flag the kernel tells the answer to who watches, and not to who asks.
  const answer = route.request({ type: RTM_GETQDISC, flags: NLM_F_ECHO, payload: encodeQdiscQuery(index) })
  if (answer.errno === constants.errno.ENOENT) return undefined
  return rootsIn(consented(answer, { operation: 'getQdisc' })).get(index)
}

export function listQdiscs({ route }: WorkerContext): ReadonlyMap<number, Qdisc> {
  const answer = route.dump({ type: RTM_GETQDISC, payload: encodeQdiscQuery(0) })
  return rootsIn(consented(answer, { operation: 'listQdiscs' }))
}

function rootsIn({ messages }: NetlinkAnswer): Map<number, Qdisc> {
  const roots = messages.flatMap(({ type, payload }) => (type === RTM_NEWQDISC ? (decodeRootQdisc(payload) ?? []) : []))
  return new Map(roots.map(({ index, qdisc }) => [index, qdisc]))
}
