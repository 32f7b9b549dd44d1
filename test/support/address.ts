import { isIPv4, isIPv6 } from 'node:net'

/** The 4 or 16 bytes of an IP address in its text form. */
export function addressBytes(address: string): Uint8Array {
  if (isIPv4(address)) return Uint8Array.from(address.split('.'), Number)
  if (!isIPv6(address)) throw new Error(`not an IP address: ${address}`)
  const [left = '', right] = address.split('::')
  const head = groups(left)
  const tail = groups(right ?? '')
  const zeros = right === undefined ? 0 : 8 - head.length - tail.length
  return Uint8Array.from(
    [...head, ...new Array<number>(zeros).fill(0), ...tail].flatMap(group => [group >> 8, group & 0xff]),
  )
}

/** The six bytes of a MAC address written with colons. */
export function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':'), octet => Number.parseInt(octet, 16))
}

/** Six bytes as `02:00:00:00:00:01`. */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, octet => octet.toString(16).padStart(2, '0')).join(':')
}

function groups(text: string): number[] {
  return text === '' ? [] : text.split(':').map(group => Number.parseInt(group, 16))
}
