import { AddressSource } from '../../src/gen/ovs/bridge/v1/tap.js'
import {
  type AddressEvent,
  AddressEventType,
  type WatchAddressesRequest,
  WatchAddressesResponse,
} from '../../src/gen/ovs/bridge/v1/watch.js'
import { lane } from './lane.js'
import type { Api } from './rpc.js'

/** What a subscriber of WatchAddresses holds after each batch it takes in. */
export interface HeldAddresses extends Disposable {
  /** By tap, VLAN and address: `red 10 10.0.0.1`. */
  readonly addresses: ReadonlyMap<string, AddressEvent>
  /** The last batch taken in; empty before the first. */
  readonly last: WatchAddressesResponse
  /** `+red 10 10.0.0.1`, `-red 10 10.0.0.1`, `!red 10 10.0.0.1 blue`, `reset`, `synced`: all it was told, in order. */
  readonly told: readonly string[]
  /** Takes in batches until `condition` holds. */
  until(what: string, condition: (held: HeldAddresses) => boolean): Promise<void>
  /** Takes in batches until an address is there that fits; its source is that of the event. */
  learned(key: string, source?: keyof typeof AddressSource): Promise<AddressEvent>
}

/** Subscribes, and takes in batches until it is synced. */
export async function holdAddresses(api: Api, request: Partial<WatchAddressesRequest> = {}): Promise<HeldAddresses> {
  const stream = api.watchAddresses(request)
  const addresses = new Map<string, AddressEvent>()
  const told: string[] = []
  let last = WatchAddressesResponse.create()
  const takeEvent = (event: AddressEvent) => {
    const { type, tap, address, otherTap } = event
    const key = `${tap} ${address?.vlan} ${address?.ip}`
    switch (type) {
      case AddressEventType.LEARNED:
        told.push(`+${key}`)
        addresses.set(key, event)
        return
      case AddressEventType.EXPIRED:
        told.push(`-${key}`)
        addresses.delete(key)
        return
      default:
        told.push(`!${key} ${otherTap}`)
    }
  }
  const take = (batch: WatchAddressesResponse) => {
    last = batch
    if (batch.reset) {
      addresses.clear()
      told.push('reset')
    }
    for (const event of batch.events) takeEvent(event)
    if (batch.synced) told.push('synced')
  }
  const held: HeldAddresses = {
    addresses,
    told,
    get last() {
      return last
    },
    until: async (what, condition) => {
      while (!condition(held)) take(await stream.next(`${what}; told so far: ${told.join(', ')}`, deadlineMs))
    },
    learned: async (key, source) => {
      await held.until(key, () => addresses.has(key))
      const found = addresses.get(key)
      if (found === undefined) throw new Error(`${key} is not there`)
      const actual = AddressSource[found.address?.source ?? AddressSource.UNSPECIFIED]
      if (source !== undefined && actual !== source)
        throw new Error(`${key} was learned by ${actual}, not by ${source}`)
      return found
    },
    [Symbol.dispose]: () => stream[Symbol.dispose](),
  }
  await held.until('a snapshot', ({ last: { synced } }) => synced)
  return held
}

/** The user-mode kernel is some ten times slower. */
const deadlineMs = lane === 'kernel' ? 60_000 : 10_000
