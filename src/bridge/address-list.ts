import { type IpAddress, type MacAddress, parseEndpointIp, parseMacAddress, parseVlanId, type VlanId } from './names.js'

/** What told us: RFC 826, RFC 4861, RFC 2131. */
export type AddressSource = 'arp' | 'ndp' | 'dhcp'

/** An address that was seen behind a tap. */
export interface SeenAddress {
  readonly ip: IpAddress
  /** The sender's, as the message has it. */
  readonly mac: MacAddress
  /** Of the frame; undefined: it had none, and the VLAN is the tap's. */
  readonly tag: VlanId | undefined
  readonly source: AddressSource
  /** Milliseconds since the epoch; brought up to date in steps. */
  readonly lastSeenMs: number
}

/** Of one tap; more are not kept, so that nobody fills the memory. */
export const maxAddresses = 16

/** One more address takes the place of one that was not seen for so many steps: whoever makes them up gets few told. */
const staleSteps = 2

export type Learned =
  /** `changed`: has another MAC; `refreshed`: nothing but the time and the order; `replaced`: new in place of the oldest. */
  | { readonly outcome: 'new' | 'changed' | 'refreshed' | 'replaced'; readonly addresses: readonly SeenAddress[] }
  /** It is there, and its time is good enough. */
  | { readonly outcome: 'known' }
  | { readonly outcome: 'full' }

/**
 * Takes an address that was seen now into those of its tap, the latest seen first. The time of one that was known is brought
 * up to date when it is `stepMs` old, or when another of its family was seen later.
 */
export function learn(addresses: readonly SeenAddress[], seen: SeenAddress, stepMs: number): Learned {
  const known = addresses.find(one => one.ip === seen.ip && one.tag === seen.tag)
  if (known === undefined) {
    if (addresses.length < maxAddresses) return { outcome: 'new', addresses: [seen, ...addresses] }
    const oldestMs = addresses.at(-1)?.lastSeenMs ?? 0
    if (seen.lastSeenMs - oldestMs < staleSteps * stepMs) return { outcome: 'full' }
    return { outcome: 'replaced', addresses: [seen, ...addresses.slice(0, -1)] }
  }
  const others = addresses.filter(one => one !== known)
  if (known.mac !== seen.mac) return { outcome: 'changed', addresses: [seen, ...others] }
  const isLatest = addresses.find(one => isIpv6(one) === isIpv6(seen)) === known
  if (isLatest && seen.lastSeenMs - known.lastSeenMs < stepMs) return { outcome: 'known' }
  return { outcome: 'refreshed', addresses: [{ ...known, lastSeenMs: seen.lastSeenMs }, ...others] }
}

/** Those that were seen after `sinceMs`. */
export function seenAfter(addresses: readonly SeenAddress[], sinceMs: number): readonly SeenAddress[] {
  return addresses.every(one => one.lastSeenMs > sinceMs)
    ? addresses
    : addresses.filter(one => one.lastSeenMs > sinceMs)
}

export function isIpv6({ ip }: Pick<SeenAddress, 'ip'>): boolean {
  return ip.includes(':')
}

/** As a record keeps them: one word each, its parts joined by commas. */
export function formatAddresses(addresses: readonly SeenAddress[]): string {
  return addresses
    .map(({ ip, mac, tag, source, lastSeenMs }) => [ip, mac, tag ?? '', source, Math.round(lastSeenMs)].join(','))
    .join(' ')
}

/** Reads {@link formatAddresses}; leaves out what cannot be read. */
export function parseAddresses(text: string): readonly SeenAddress[] {
  return text
    .split(' ')
    .flatMap(word => parseAddress(word) ?? [])
    .slice(0, maxAddresses)
}

function parseAddress(word: string): SeenAddress | undefined {
  const [ipText = '', macText = '', tagText = '', sourceText, time = ''] = word.split(',')
  const ip = parseEndpointIp(ipText)
  const mac = parseMacAddress(macText)
  const tag = tagText === '' ? undefined : parseVlanId(Number(tagText))
  const source = sources.find(known => known === sourceText)
  if (!ip.ok || !mac.ok || tag?.ok === false || source === undefined || !/^\d{1,15}$/.test(time)) return undefined
  return { ip: ip.value, mac: mac.value, tag: tag?.value, source, lastSeenMs: Number(time) }
}

const sources: readonly AddressSource[] = ['arp', 'ndp', 'dhcp']
