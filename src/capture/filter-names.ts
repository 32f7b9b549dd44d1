import { isIPv6 } from 'node:net'

/**
 * Which words of a filter libpcap would look up: names of hosts and networks, for which it asks the name service of this host,
 * as long as that takes. Names of ports and protocols stand in files.
 */

/** Words with a meaning in libpcap's scanner.l (1.10), but for those below; any other is a name. */
const keywords = new Set(
  `dst src link ether ppp slip fddi tr wlan arp rarp ip sctp tcp udp icmp igmp igrp pim vrrp carp radio ip6 icmp6 ah esp
  atalk aarp decnet lat sca moprc mopdl iso esis es-is isis is-is l1 l2 iih lsp snp csnp psnp clnp stp ipx netbeui
  host net mask gateway address1 addr1 address2 addr2 address3 addr3 address4 addr4 ra ta
  less greater byte broadcast multicast len length inbound outbound ifindex vlan mpls pppoed pppoes geneve
  lane metac bcc oam oamf4 oamf4ec oamf4sc sc ilmic vpi vci connectmsg metaconnect rnr rulenum srnr subrulenum
  fisu lssu lsu msu hfisu hlssu hmsu sio opc dpc sls hsio hopc hdpc hsls
  icmptype icmpcode icmp-echoreply icmp-unreach icmp-sourcequench icmp-redirect icmp-echo icmp-routeradvert
  icmp-routersolicit icmp-timxceed icmp-paramprob icmp-tstamp icmp-tstampreply icmp-ireq icmp-ireqreply icmp-maskreq
  icmp-maskreply icmp6type icmp6code icmp6-destinationunreach icmp6-packettoobig icmp6-timeexceeded
  icmp6-parameterproblem icmp6-echo icmp6-echoreply icmp6-multicastlistenerquery icmp6-multicastlistenerreportv1
  icmp6-multicastlistenerdone icmp6-routersolicit icmp6-routeradvert icmp6-neighborsolicit icmp6-neighboradvert
  icmp6-redirect icmp6-routerrenum icmp6-nodeinformationquery icmp6-nodeinformationresponse
  icmp6-ineighbordiscoverysolicit icmp6-ineighbordiscoveryadvert icmp6-multicastlistenerreportv2
  icmp6-homeagentdiscoveryrequest icmp6-homeagentdiscoveryreply icmp6-mobileprefixsolicit icmp6-mobileprefixadvert
  icmp6-certpathsolicit icmp6-certpathadvert icmp6-multicastrouteradvert icmp6-multicastroutersolicit
  icmp6-multicastrouterterm tcpflags tcp-fin tcp-syn tcp-rst tcp-push tcp-ack tcp-urg tcp-ece tcp-cwr`.split(/\s+/),
)
const connectives = new Set(['and', 'or', 'not'])
/** What they qualify is looked up in files, also behind the connectives that follow. */
const inFiles = new Set(['port', 'portrange', 'proto', 'protochain'])
/** One word of their own may follow. */
const beforeValue = new Set('llc type subtype direction dir on ifname rset ruleset reason action'.split(' '))

/** A word as scanner.l takes it, one that is escaped, an address with colons, or a parenthesis. */
const token = /\\[^ !()\n\t]+|[0-9A-Fa-f]*:[0-9A-Fa-f:.]*|[A-Za-z0-9](?:[-_.A-Za-z0-9]*[.A-Za-z0-9])?|[()]/g
const number = /^(?:0x[\da-f]+|\d+)(?:\.(?:0x[\da-f]+|\d+)){0,3}$/i
const ethernet =
  /^(?:[\da-f]{1,2}([-.:])[\da-f]{1,2}(?:\1[\da-f]{1,2}){4}|[\da-f]{4}\.[\da-f]{4}\.[\da-f]{4}|[\da-f]{12})$/i

/** Any address will do in the place of a name. */
const standIn = ' 192.0.2.1 '

/** A filter in which an address stands for each name, and the first of them. */
export interface NumericFilter {
  readonly text: string
  /** undefined: there is none, and the text is as it was. */
  readonly name: string | undefined
}

/** Finds what libpcap would look up. A word that only a newer libpcap knows counts as a name. */
export function numericFilter(filter: string): NumericFilter {
  let first: string | undefined
  /** Whether the words to come are looked up in files, in and around parentheses. */
  let inFilesNow = false
  const around: boolean[] = []
  let isValue = false
  const judge = (word: string): string => {
    // Such as ip[2:2].
    if (word.includes(':') && !isAddress(word)) return word.replaceAll(/[^:]+/g, judge)
    const wasValue = isValue
    isValue = beforeValue.has(word)
    if (word === '(') around.push(inFilesNow)
    else if (word === ')') inFilesNow = around.pop() ?? false
    else if (inFiles.has(word)) inFilesNow = true
    else if (keywords.has(word)) inFilesNow = false
    else if (!isValue && !connectives.has(word) && !isAddress(word) && !wasValue && !inFilesNow) {
      first ??= word.replace(/^\\/, '')
      return standIn
    }
    return word
  }
  const text = filter.replaceAll(token, judge)
  return { text, name: first }
}

function isAddress(word: string): boolean {
  return number.test(word) || ethernet.test(word) || isIPv6(word)
}
