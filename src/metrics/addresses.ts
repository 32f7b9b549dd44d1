import type { Registry } from 'prom-client'
import { type Family, readingsRegistry } from './readings.js'

/** What has been learned of addresses since the start, and how many are known now. */
export interface AddressReadings {
  readonly known: number
  readonly learned: number
  readonly expired: number
  readonly conflicts: number
  readonly overLimit: number
  readonly framesLost: number
}

const counted: readonly Family<AddressReadings>[] = [
  {
    name: 'ovs_bridged_addresses_learned_total',
    help: 'Addresses that were new on their tap, or had a new MAC.',
    values: ({ learned }) => ({ '': learned }),
  },
  {
    name: 'ovs_bridged_addresses_expired_total',
    help: 'Addresses that aged out, gave way to another, or whose tap went.',
    values: ({ expired }) => ({ '': expired }),
  },
  {
    name: 'ovs_bridged_address_conflicts_total',
    help: 'Times that an address or MAC was found on a second tap of a VLAN.',
    values: ({ conflicts }) => ({ '': conflicts }),
  },
  {
    name: 'ovs_bridged_addresses_over_limit_total',
    help: 'Times that an address was not taken because its tap had as many as are kept.',
    values: ({ overLimit }) => ({ '': overLimit }),
  },
  {
    name: 'ovs_bridged_snooped_frames_lost_total',
    help: 'ARP, NDP and DHCP frames that were not looked at because too many came.',
    values: ({ framesLost }) => ({ '': framesLost }),
  },
]

const present: readonly Family<AddressReadings>[] = [
  {
    name: 'ovs_bridged_addresses',
    help: 'Addresses that are known behind taps.',
    values: ({ known }) => ({ '': known }),
  },
]

/** The addresses of all taps together: those of one would be labels without end. */
export function addressRegistry(read: () => AddressReadings): Registry {
  return readingsRegistry(read, { counted, present })
}
