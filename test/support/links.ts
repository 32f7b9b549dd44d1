import { isIPv6 } from 'node:net'
import type { Link } from '../../src/kernel/index.js'
import { bytes, encodeAttributes } from '../../src/kernel/netlink/attribute.js'
import {
  decodeLink,
  encodeLinkChange,
  encodeLinkDeletion,
  encodeLinkDump,
  encodeLinkQuery,
  encodeVeth,
  type LinkSettings,
  RTM_DELLINK,
  RTM_GETLINK,
  RTM_NEWLINK,
  RTM_SETLINK,
} from '../../src/kernel/netlink/link-message.js'
import { concatenate, NLM_F_CREATE, NLM_F_EXCL } from '../../src/kernel/netlink/message.js'
import {
  NETLINK_ROUTE,
  type NetlinkAnswer,
  type NetlinkRequest,
  type NetlinkSocket,
  openNetlinkSocket,
} from '../../src/kernel/netlink/socket.js'
import { loadSyscalls } from '../../src/lib/syscall.js'
import { addressBytes } from './address.js'
import type { Namespace } from './namespace.js'
import { loadTestSyscalls } from './syscalls.js'

// All of these act in the calling thread's namespace, at once: netlink requests do not wait for anything.

/** Every link with its counters. */
export function listLinks(): readonly Link[] {
  return withRouteSocket(socket => {
    const answer = agreed('list links', socket.dump({ type: RTM_GETLINK, payload: encodeLinkDump(true) }))
    return answer.messages.filter(message => message.type === RTM_NEWLINK).map(message => decodeLink(message.payload))
  })
}

/** The link of that name, if there is one. */
export function findLink(name: string): Link | undefined {
  return withRouteSocket(socket => {
    const answer = socket.request({ type: RTM_GETLINK, payload: encodeLinkQuery(0, name) })
    const found = answer.messages.find(message => message.type === RTM_NEWLINK)
    return found === undefined ? undefined : decodeLink(found.payload)
  })
}

/** Deletes a link by its index; throws when it is not there. */
export function deleteLink(index: number): void {
  request(`delete link ${index}`, { type: RTM_DELLINK, payload: encodeLinkDeletion(index) })
}

/** Changes a link; throws when it is not there. */
export function changeLink(settings: LinkSettings & { readonly name: string }): void {
  request(`change ${settings.name}`, { type: RTM_SETLINK, payload: encodeLinkChange(0, settings) })
}

/** Makes a veth pair, both ends up: one end here, its peer in another namespace. */
export function createVethPair(
  here: LinkSettings & { readonly name: string },
  peer: LinkSettings & { readonly name: string },
  peerNamespace: Pick<Namespace, 'path'>,
): void {
  const syscalls = loadTestSyscalls()
  const fd = syscalls.open(peerNamespace.path, O_CLOEXEC)
  try {
    // The peer comes up with the message; this end cannot, since its peer is not known to it yet.
    const payload = encodeVeth({ up: true, ...peer, netnsFd: fd }, here)
    request(`create veth ${here.name}`, { type: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, payload })
  } finally {
    syscalls.close(fd)
  }
  changeLink({ name: here.name, up: true, silent: 'ip' })
}

const O_CLOEXEC = 0o2000000

// rtnetlink(7), <linux/if_addr.h>
const RTM_NEWADDR = 20
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
const IFA_F_NODAD = 0x02
const AF_INET = 2
const AF_INET6 = 10

/** Gives a link an address, written `10.0.0.1/24` or `fd00::1/64`; an IPv6 one is usable at once. */
export function addAddress(linkName: string, prefix: string): void {
  const link = findLink(linkName)
  if (link === undefined) throw new Error(`no link ${linkName} to give ${prefix}`)
  const [address = '', length = ''] = prefix.split('/')
  // struct ifaddrmsg: family, prefix length, flags, scope, index.
  const header = Buffer.alloc(8)
  header.writeUInt8(isIPv6(address) ? AF_INET6 : AF_INET, 0)
  header.writeUInt8(Number(length), 1)
  header.writeUInt8(IFA_F_NODAD, 2)
  header.writeUInt32LE(link.index, 4)
  const value = addressBytes(address)
  const payload = concatenate(header, encodeAttributes([bytes(IFA_LOCAL, value), bytes(IFA_ADDRESS, value)]))
  request(`add ${prefix} to ${linkName}`, { type: RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL, payload })
}

function request(what: string, message: NetlinkRequest): void {
  withRouteSocket(socket => agreed(what, socket.request(message)))
}

function agreed(what: string, answer: NetlinkAnswer): NetlinkAnswer {
  if (answer.errno !== 0) throw new Error(`${what}: errno ${answer.errno} ${answer.text}`)
  return answer
}

function withRouteSocket<T>(action: (socket: NetlinkSocket) => T): T {
  const opened = openNetlinkSocket(loadSyscalls(), NETLINK_ROUTE)
  if (!opened.ok) throw new Error(`netlink socket: errno ${opened.errno}`)
  using socket = opened.value
  return action(socket)
}
