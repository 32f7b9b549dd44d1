/** What a frame says about addresses. IP addresses are written as RFC 5952 has them, MACs in lower case with colons. */
export type AddressMessage =
  /** The sender has this address. */
  | { readonly kind: 'claim'; readonly protocol: 'arp' | 'ndp'; readonly ip: string; readonly mac: string }
  /** The sender will have it unless somebody objects (RFC 4862 §5.4). */
  | { readonly kind: 'probe'; readonly ip: string; readonly mac: string }
  /** A DHCP client asks for an address. */
  | { readonly kind: 'request'; readonly mac: string; readonly transaction: number }
  /** A DHCP server gives a client an address. */
  | { readonly kind: 'lease'; readonly ip: string; readonly mac: string; readonly transaction: number }

/** A frame on its way through a device. */
export interface HeardFrame {
  /** Name of the device. */
  readonly device: string
  /** The host sends it into the device; otherwise it came out of it. */
  readonly outgoing: boolean
  /** VLAN of its outermost 802.1Q or 802.1ad tag; undefined: it has none. */
  readonly vlan: number | undefined
  readonly message: AddressMessage
}
