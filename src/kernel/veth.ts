import { randomBytes } from 'node:crypto'
import { constants } from 'node:os'
import { birthMac } from './birth-mac.js'
import { discard } from './deletion.js'
import { KernelError, type Where } from './errors.js'
import type { Link, Veth, VethSpec } from './link.js'
import { type MacAddress, parseMacAddress } from './names.js'
import { encodeLinkChange, encodeVeth, type LinkSettings, RTM_NEWLINK, RTM_SETLINK } from './netlink/link-message.js'
import { NLM_F_CREATE, NLM_F_EXCL } from './netlink/message.js'
import type { NetlinkAnswer } from './netlink/socket.js'
import { withNetns } from './netns.js'
import {
  consented,
  findLink,
  forSwitch,
  type Outcome,
  readLink,
  refused,
  setSilently,
  type WorkerContext,
} from './worker-context.js'

const operation = 'createVeth'

/** Makes a pair, both ends up. */
export function createVeth(context: WorkerContext, spec: VethSpec): Outcome<Veth> {
  const peerMac = spec.mac ?? randomMac()
  const index = withNetns(context, spec.netns, operation, netnsFd => createPair(context, spec, peerMac, netnsFd))
  const target = { name: spec.name, index }
  const undo = () => discard(context, [target])
  try {
    return { value: { link: bringUp(context, index, spec), peerMac }, undo }
  } catch (error) {
    undo()
    throw error
  }
}

/**
 * One message from the far end's side: the kernel can bring up only the end the message is about (the other is not yet tied
 * to it, ENOTCONN), and the near end has to be set up anyway, since at birth it takes neither an alias nor IFLA_AF_SPEC.
 */
function createPair(context: WorkerContext, spec: VethSpec, mac: MacAddress, netnsFd: number): number {
  const answer = requestPair(context, spec, { name: spec.peerName, mac, up: true, netnsFd })
  const link = findLink(context, spec.name, operation)
  if (answer.errno === constants.errno.EEXIST) {
    if (link !== undefined) throw refused(answer.errno, answer.text, { operation, device: spec.name })
    // Before Linux 6.13 the far end's name had to be free on this side, too.
    if (findLink(context, spec.peerName, operation) !== undefined) return createAndMove(context, spec, mac, netnsFd)
    throw refused(answer.errno, answer.text, { operation, device: spec.peerName })
  }
  consented(answer, { operation, device: spec.name })
  return nearEnd(link, spec).index
}

/** Makes the far end here under a passing name; it takes its own on the way to its namespace. */
function createAndMove(context: WorkerContext, spec: VethSpec, mac: MacAddress, netnsFd: number): number {
  const where = { operation, device: spec.name }
  consented(requestPair(context, spec, { name: `v-${randomBytes(4).toString('hex')}`, mac }), where)
  const link = nearEnd(findLink(context, spec.name, operation), spec)
  const moved = context.route.request({
    type: RTM_SETLINK,
    payload: encodeLinkChange(link.peerIndex ?? 0, { name: spec.peerName, netnsFd, up: true }),
  })
  if (moved.errno === 0) return link.index
  discard(context, [link])
  throw refused(moved.errno, moved.text, { operation, device: spec.peerName })
}

function requestPair(context: WorkerContext, spec: VethSpec, far: LinkSettings): NetlinkAnswer {
  const mtu = spec.mtuBytes === undefined ? {} : { mtuBytes: spec.mtuBytes }
  const payload = encodeVeth({ ...far, ...mtu }, { name: spec.name, mac: birthMac(spec), ...mtu })
  return context.route.request({ type: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, payload })
}

function nearEnd(link: Link | undefined, spec: VethSpec): Link {
  if (link === undefined) throw refused(constants.errno.ENODEV, '', { operation, device: spec.name })
  return link
}

/** What is set while it is down costs no link event; going up costs one, and the carrier one. */
function bringUp(context: WorkerContext, index: number, spec: VethSpec): Link {
  const where: Where = { operation, device: spec.name }
  setSilently(context, { index, settings: { alias: spec.alias }, where })
  consented(context.route.request({ type: RTM_SETLINK, payload: encodeLinkChange(index, forSwitch) }), where)
  return readLink(context, index, where)
}

/** Locally administered and of one station (IEEE 802, U/L and I/G bits). */
function randomMac(): MacAddress {
  const octets = randomBytes(6)
  octets[0] = ((octets[0] ?? 0) & 0xfc) | 0x02
  const parsed = parseMacAddress(octets.toString('hex').match(/../g)?.join(':') ?? '')
  if (!parsed.ok) throw new KernelError({ operation, kind: 'unexpected', detail: `random address ${parsed.reason}` })
  return parsed.value
}
