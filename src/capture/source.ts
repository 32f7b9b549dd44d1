/** A device to capture, and what of it. */
export interface Source {
  readonly device: string
  /** pcap-filter(7); empty: all. */
  readonly filter: string
  /** Bytes kept of each packet. */
  readonly snapLenBytes: number
  /** Leaves out what the host sends into the device. */
  readonly inboundOnly: boolean
}
