/** A frame's header taken apart (IEEE 802.3, 802.1Q). */
export interface EthernetFrame {
  readonly source: string
  /** Of the outermost tag; undefined: untagged, or tagged for its priority alone (VLAN 0). */
  readonly vlan: number | undefined
  readonly etherType: number
  /** What follows the tags. */
  readonly payload: Buffer
}

export const ETH_P_IP = 0x0800
export const ETH_P_ARP = 0x0806
export const ETH_P_IPV6 = 0x86dd
/** 802.1Q and 802.1ad. */
export const tagTypes: readonly number[] = [0x8100, 0x88a8]

const addressesBytes = 12
const tagBytes = 4
const vlanMask = 0xfff

/**
 * Reads a frame as a packet socket hands it over. The kernel takes the outermost tag out of most frames and tells its TCI
 * beside them (packet(7), PACKET_AUXDATA); `strippedTci` is undefined where it did not. Undefined: no whole header.
 */
export function readEthernet(frame: Buffer, strippedTci: number | undefined): EthernetFrame | undefined {
  let vlan = strippedTci === undefined ? undefined : vlanOf(strippedTci)
  let at = addressesBytes
  while (frame.length >= at + tagBytes + 2 && tagTypes.includes(frame.readUInt16BE(at))) {
    vlan ??= vlanOf(frame.readUInt16BE(at + 2))
    at += tagBytes
  }
  if (frame.length < at + 2) return undefined
  return {
    source: formatMac(frame.subarray(6, 12)),
    vlan,
    etherType: frame.readUInt16BE(at),
    payload: frame.subarray(at + 2),
  }
}

function vlanOf(tci: number): number | undefined {
  const vlan = tci & vlanMask
  return vlan === 0 ? undefined : vlan
}

/** Six bytes as `02:00:00:00:00:01`. */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, octet => octet.toString(16).padStart(2, '0')).join(':')
}
