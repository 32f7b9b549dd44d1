import type { Tap } from '../../src/gen/ovs/bridge/v1/tap.js'
import { TapEventType, type WatchTapsRequest, WatchTapsResponse } from '../../src/gen/ovs/bridge/v1/watch.js'
import type { Api } from './rpc.js'

/** What a subscriber of WatchTaps holds after each batch it takes in. */
export interface HeldTaps extends Disposable {
  readonly taps: ReadonlyMap<string, Tap>
  /** The last batch taken in; empty before the first. */
  readonly last: WatchTapsResponse
  /** `+one`, `~one`, `-one`, `reset`, `synced`: all that it has been told, in order. */
  readonly told: readonly string[]
  /** Takes in batches until `condition` holds. */
  until(what: string, condition: (held: HeldTaps) => boolean): Promise<void>
}

const marks: Readonly<Partial<Record<TapEventType, string>>> = {
  [TapEventType.ADDED]: '+',
  [TapEventType.CHANGED]: '~',
  [TapEventType.REMOVED]: '-',
}

/** Subscribes, and takes in batches until it is synced. */
export async function holdTaps(api: Api, request: Partial<WatchTapsRequest> = {}): Promise<HeldTaps> {
  const stream = api.watchTaps(request)
  const taps = new Map<string, Tap>()
  const told: string[] = []
  let last = WatchTapsResponse.create()
  const take = (batch: WatchTapsResponse) => {
    last = batch
    if (batch.reset) {
      taps.clear()
      told.push('reset')
    }
    for (const { type, tap } of batch.events) {
      if (tap === undefined) throw new Error('an event without a tap')
      told.push(`${marks[type] ?? '?'}${tap.name}`)
      if (type === TapEventType.REMOVED) taps.delete(tap.name)
      else taps.set(tap.name, tap)
    }
    if (batch.synced) told.push('synced')
  }
  const held: HeldTaps = {
    taps,
    told,
    get last() {
      return last
    },
    until: async (what, condition) => {
      while (!condition(held)) take(await stream.next(what))
    },
    [Symbol.dispose]: () => stream[Symbol.dispose](),
  }
  await held.until('a snapshot', ({ last: { synced } }) => synced)
  return held
}
