import type { Brand } from '../lib/brand.js'

/** A name the kernel takes for a network device, as it stands: 1 to 15 bytes (`dev_valid_name`, IFNAMSIZ in `<linux/if.h>`). */
export type LinkName = Brand<string, 'LinkName'>

/** The address of one Ethernet station, lower case with colons: `02:00:00:00:00:01`. Never a group address, never all zeroes. */
export type MacAddress = Brand<string, 'MacAddress'>

export type ParsedLinkName =
  | { readonly ok: true; readonly name: LinkName }
  | { readonly ok: false; readonly reason: string }
export type ParsedMacAddress =
  | { readonly ok: true; readonly mac: MacAddress }
  | { readonly ok: false; readonly reason: string }

const maxNameBytes = 15
const forbiddenInName = /[\s\p{Cc}\p{Cs}/:%]/u

/** Takes a device name, or says in a few words why the kernel would not (`%` is its pattern for a free number). */
export function parseLinkName(text: string): ParsedLinkName {
  const reason = faultOfName(text)
  if (reason !== undefined) return { ok: false, reason }
  return { ok: true, name: text as LinkName }
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

/** Takes `xx:xx:xx:xx:xx:xx` or `xx-xx-…` in any case; a group address (IEEE 802 I/G bit) and all zeroes belong to no station. */
export function parseMacAddress(text: string): ParsedMacAddress {
  if (!macPattern.test(text)) return { ok: false, reason: 'is not six octets like 02:00:00:00:00:01' }
  const mac = text.toLowerCase().replaceAll('-', ':')
  if (mac === '00:00:00:00:00:00') return { ok: false, reason: 'is all zeroes' }
  if ((Number.parseInt(mac.slice(0, 2), 16) & 1) === 1) return { ok: false, reason: 'is a multicast address' }
  return { ok: true, mac: mac as MacAddress }
}
