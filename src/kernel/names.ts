import type { Brand } from '../lib/brand.js'
import { type Parsed, parsed, refused } from '../lib/parsed.js'

/**
 * A name the kernel takes for a network device, as it stands: 1 to 15 bytes (`dev_valid_name`, IFNAMSIZ in
 * `<linux/if.h>`).
 */
export type LinkName = Brand<string, 'LinkName'>

/**
 * The address of one Ethernet station, lower case with colons: `02:00:00:00:00:01`. Never a group address, never all
 * zeroes.
 */
export type MacAddress = Brand<string, 'MacAddress'>

const maxNameBytes = 15
const forbiddenInName = /[\s\p{Cc}\p{Cf}\p{Cs}/:%]/u

/**
 * Takes a device name, or says in a few words why the kernel would not (`%` is its pattern for a free number). Nor are marks
 * taken that show nothing, or turn a line around: two names must not look the same.
 */
export function parseLinkName(text: string): Parsed<LinkName> {
  const reason = faultOfName(text)
  return reason === undefined ? parsed(text as LinkName) : refused(reason)
}

function faultOfName(text: string): string | undefined {
  if (text === '') return 'is empty'
  if (text === '.' || text === '..') return `is ${JSON.stringify(text)}`
  const bytes = Buffer.byteLength(text)
  if (bytes > maxNameBytes) return `is ${bytes} bytes long, the limit is ${maxNameBytes}`
  const found = forbiddenInName.exec(text)?.[0]
  return found === undefined ? undefined : `contains ${JSON.stringify(found)}`
}

const macPattern = /^[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}$/i

/**
 * Takes `xx:xx:xx:xx:xx:xx` or `xx-xx-…` in any case; a group address (IEEE 802 I/G bit) and all zeroes belong to no
 * station.
 */
export function parseMacAddress(text: string): Parsed<MacAddress> {
  if (!macPattern.test(text)) return refused('is not six octets like 02:00:00:00:00:01')
  const mac = text.toLowerCase().replaceAll('-', ':')
  if (mac === '00:00:00:00:00:00') return refused('is all zeroes')
  if ((Number.parseInt(mac.slice(0, 2), 16) & 1) === 1) return refused('is a multicast address')
  return parsed(mac as MacAddress)
}
