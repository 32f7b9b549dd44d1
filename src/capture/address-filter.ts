import {
  addX,
  and,
  assemble,
  at,
  give,
  type Instruction,
  ifAny,
  ifEqual,
  jump,
  loadByte,
  loadHalf,
  loadInterface,
  loadPacketType,
  loadWord,
  moveToX,
  setX,
  shiftLeft,
} from './bpf.js'
import { clientPort, serverPort } from './dhcp.js'
import { ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, tagTypes } from './ethernet.js'

/** Whose word a socket hears. */
export type Direction =
  /** What endpoints say: ARP, neighbour discovery, requests for an address. */
  | 'from-endpoints'
  /** What is said to them: who has the address they probe for, and what a DHCP server gives them. */
  | 'to-endpoints'

export interface Filter {
  readonly direction: Direction
  /** Indexes of devices whose endpoint is the host itself: what it sends comes from the endpoint. */
  readonly hosts: readonly number[]
  /** Devices that are not heard, or with `only` the only ones that are. */
  readonly noisy: readonly number[]
  readonly only?: boolean
}

/** As many devices fit into one program, those of the host before the noisy ones. */
export const maxDevices = 1_900

/** An Ethernet frame's header without a tag, and one tag. */
const headerBytes = 14
const tagBytes = 4
/** Of the longest message that counts: a DHCP message within one Ethernet frame. */
const wholeFrame = 1_522
/** <linux/if_packet.h> */
const PACKET_OUTGOING = 4

/**
 * The program that lets through what the direction is about, below up to two tags. It runs for every frame of every device,
 * so the protocol comes first. The kernel knows from where a frame comes and through which device: only the tag that it
 * has taken out of a frame is out of sight here, and does not matter.
 */
export function filterProgram(filter: Filter): Uint8Array {
  return assemble([
    ...protocols(filter.direction),
    ...devices(filter),
    at('drop'),
    give(0),
    at('take'),
    give(wholeFrame),
  ])
}

function protocols(direction: Direction): Instruction[] {
  const isFrom = direction === 'from-endpoints'
  return [
    setX(0),
    ...behindTag('tagged', 'types'),
    at('tagged'),
    setX(tagBytes),
    ...behindTag('twice', 'types'),
    at('twice'),
    setX(2 * tagBytes),
    loadHalf(headerBytes - 2),
    at('types'),
    ...(isFrom ? [ifEqual(ETH_P_ARP, 'wanted')] : []),
    ifEqual(ETH_P_IPV6, 'ipv6'),
    ifEqual(ETH_P_IP, 'ipv4', 'unwanted'),
    at('ipv6'),
    ...neighbourDiscovery(isFrom),
    at('ipv4'),
    ...dhcp(isFrom ? serverPort : clientPort),
    at('unwanted'),
    give(0),
    at('wanted'),
  ]
}

/** Goes on at `tagged` if a tag stands at X, else at `plain`; A is the EtherType. */
function behindTag(tagged: string, plain: string): Instruction[] {
  return [loadHalf(headerBytes - 2), ...tagTypes.map(type => ifEqual(type, tagged)), jump(plain)]
}

/** RFC 8200 §3 and RFC 4861 §4: offsets within the frame. */
const nextHeaderAt = headerBytes + 6
const sourceAt = headerBytes + 8
const destinationAt = headerBytes + 24
const icmpTypeAt = headerBytes + 40

/** All that an endpoint says; of what is said to it probes, and advertisements to all, with which a probe is objected to. */
function neighbourDiscovery(isFrom: boolean): Instruction[] {
  const fromNobody = [0, 4, 8, 12].flatMap(offset => [
    loadWord(sourceAt + offset),
    ifEqual(0, `zero${offset}`, 'unwanted'),
    at(`zero${offset}`),
  ])
  return [
    loadByte(nextHeaderAt),
    ifEqual(58, 'icmpv6', 'unwanted'),
    at('icmpv6'),
    loadByte(icmpTypeAt),
    ifEqual(136, 'advertisement'),
    ifEqual(135, 'solicitation', 'unwanted'),
    at('advertisement'),
    ...(isFrom ? [] : [loadByte(destinationAt), ifEqual(0xff, 'told-to-all', 'unwanted'), at('told-to-all')]),
    jump('wanted'),
    at('solicitation'),
    ...(isFrom ? [] : fromNobody),
    jump('wanted'),
  ]
}

/** A whole datagram to this port, RFC 791 §3.1 and RFC 768. */
function dhcp(port: number): Instruction[] {
  return [
    loadByte(headerBytes + 9),
    ifEqual(17, 'udp', 'unwanted'),
    at('udp'),
    loadHalf(headerBytes + 6),
    ifAny(0x1fff, 'unwanted'),
    loadByte(headerBytes),
    and(0xf),
    shiftLeft(2),
    addX,
    moveToX,
    loadHalf(headerBytes + 2),
    ifEqual(port, 'wanted', 'unwanted'),
  ]
}

function devices({ direction, hosts, noisy, only = false }: Filter): Instruction[] {
  const [outOfDevice, intoDevice] = direction === 'from-endpoints' ? ['take', 'drop'] : ['drop', 'take']
  const known = hosts.slice(0, maxDevices)
  const exempt = noisy.slice(0, maxDevices - known.length)
  return [
    loadInterface,
    ...among(exempt, only ? 'heard' : 'drop'),
    ...(only ? [jump('drop'), at('heard')] : []),
    ...among(known, 'host'),
    loadPacketType,
    ifEqual(PACKET_OUTGOING, intoDevice, outOfDevice),
    at('host'),
    loadPacketType,
    ifEqual(PACKET_OUTGOING, outOfDevice, intoDevice),
  ]
}

/** Goes to `to`, however far that is, if A is one of the values. */
function among(values: readonly number[], to: string): Instruction[] {
  return values.flatMap((value, index) => [
    ifEqual(value, `${to}-by-${index}`, `${to}-not-${index}`),
    at(`${to}-by-${index}`),
    jump(to),
    at(`${to}-not-${index}`),
  ])
}
