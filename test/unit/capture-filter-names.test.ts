import assert from 'node:assert/strict'
import { test } from 'node:test'
import { numericFilter } from '../../src/capture/filter-names.js'

const withoutNames = [
  '',
  'tcp port http or ftp and not udp dst portrange ntp-snmp',
  'ip proto \\tcp or \\udp',
  'ether proto \\arp',
  'ether host 02:00:00:00:00:01 or 2-0-0-0-0-1 or 0200.0000.0001 or 020000000001',
  'src net 10.0.0.0/8 or 10.1 mask 255.255.0.0 or dst host fe80::1 or ::ffff:10.0.0.1',
  'tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and icmp[icmptype]==icmp-echo and ip[2:2] > 0x40',
  'vlan 10 and (host 10.0.0.1 and (port domain))',
  'llc rnr and len<=100',
] as const

const namesOf = {
  'host router': 'router',
  router: 'router',
  'src 10.0.0.1 or router.example': 'router.example',
  'net lab': 'lab',
  'ether host printer': 'printer',
  'gateway router': 'router',
  'host foo:bar': 'foo',
  'host http': 'http',
  'host \\tcp': 'tcp',
  'host 1.2.3.4.5': '1.2.3.4.5',
  'port 80 and src www': 'www',
  'host abc:def': 'abc',
  // What the parentheses hold is over behind them.
  'host 10.0.0.1 and (port 80) or router': 'router',
  'port 80 and (host 10.0.0.1) and ftp and tcp router': 'router',
  'HOST 10.0.0.1': 'HOST',
} as const

test('only names of hosts and networks are taken for such, as libpcap would', () => {
  for (const filter of withoutNames) assert.deepEqual(numericFilter(filter), { text: filter, name: undefined })
  for (const [filter, name] of Object.entries(namesOf)) assert.equal(numericFilter(filter).name, name, filter)
})

test('an address stands for each name', () => {
  const { text } = numericFilter('host router and (src www or port www)')
  assert.equal(text.replaceAll(/ +/g, ' '), 'host 192.0.2.1 and (src 192.0.2.1 or port www)')
})
