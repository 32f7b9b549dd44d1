import type { AddressMessage } from './address-message.js'
import { readArp } from './arp.js'
import { readDhcp } from './dhcp.js'
import { ETH_P_ARP, ETH_P_IP, ETH_P_IPV6, readEthernet } from './ethernet.js'
import { readNdp } from './ndp.js'

/** What a frame says about addresses, with the VLAN of its tag. Undefined: nothing. As for {@link readEthernet}. */
export function decodeFrame(
  frame: Buffer,
  strippedTci: number | undefined,
): { readonly vlan: number | undefined; readonly message: AddressMessage } | undefined {
  const ethernet = readEthernet(frame, strippedTci)
  if (ethernet === undefined) return undefined
  const { vlan, etherType, payload, source } = ethernet
  const message = decodePayload(etherType, payload, source)
  return message && { vlan, message }
}

function decodePayload(etherType: number, payload: Buffer, source: string): AddressMessage | undefined {
  switch (etherType) {
    case ETH_P_ARP:
      return readArp(payload)
    case ETH_P_IPV6:
      return readNdp(payload, source)
    case ETH_P_IP:
      return readDhcp(payload)
    default:
      return undefined
  }
}
