import { constants } from 'node:os'
import type { KernelFacts } from './link.js'
import { queryFamily } from './netlink/generic.js'
import { NLM_F_CREATE, NLM_F_EXCL } from './netlink/message.js'
import { encodeBarePolicer, RTM_NEWACTION } from './netlink/policer-message.js'
import { encodeBareQdisc, RTM_NEWQDISC } from './netlink/qdisc-message.js'
import { NETLINK_GENERIC, openNetlinkSocket } from './netlink/socket.js'
import { hasTunDevice } from './tap.js'
import { findLink, type WorkerContext } from './worker-context.js'

const operation = 'probe'

export function probe(context: WorkerContext): KernelFacts {
  const loopback = findLink(context, 'lo', operation)?.index ?? 1
  const netem = askForQdisc(context, loopback, 'netem')
  const tbf = askForQdisc(context, loopback, 'tbf')
  return {
    tunDevice: hasTunDevice(context),
    netAdmin: netem !== constants.errno.EPERM,
    openvswitch: hasFamily(context, 'ovs_datapath'),
    netem: netem === constants.errno.EINVAL,
    tbf: tbf === constants.errno.EINVAL,
    police: askForPolicer(context) === constants.errno.EINVAL,
  }
}

/**
 * Asks for a qdisc without its options: EINVAL from the qdisc that misses them, ENOENT when there is none of that kind,
 * EPERM without CAP_NET_ADMIN. Nothing is changed in any case.
 */
function askForQdisc({ route }: WorkerContext, index: number, kind: string): number {
  const flags = NLM_F_CREATE | NLM_F_EXCL
  return route.request({ type: RTM_NEWQDISC, flags, payload: encodeBareQdisc(index, kind) }).errno
}

/** As {@link askForQdisc}, for the action that Open vSwitch polices with. */
function askForPolicer({ route }: WorkerContext): number {
  const flags = NLM_F_CREATE | NLM_F_EXCL
  return route.request({ type: RTM_NEWACTION, flags, payload: encodeBarePolicer() }).errno
}

function hasFamily({ syscalls }: WorkerContext, family: string): boolean {
  const opened = openNetlinkSocket(syscalls, NETLINK_GENERIC)
  if (!opened.ok) return false
  using socket = opened.value
  return queryFamily(socket, family).errno === 0
}
