import assert from 'node:assert/strict'
import { setMaxListeners } from 'node:events'
import { test } from 'node:test'
import type { MethodDefinition } from '@grpc/grpc-js'
import { type AddressEntry, entryOf } from '../../src/bridge/address-entry.js'
import type { TapFeed } from '../../src/bridge/events.js'
import type { Tap } from '../../src/bridge/inventory.js'
import { unmeasured } from '../../src/bridge/meter.js'
import { parseEndpointIp, parseMacAddress, parsePortName, parseVlanId } from '../../src/bridge/names.js'
import type { TapRecord } from '../../src/bridge/ownership-tap.js'
import { noQos } from '../../src/bridge/qos-parse.js'
import type { StatsTick } from '../../src/bridge/stats.js'
import { WatchTapStatsRequest } from '../../src/gen/ovs/bridge/v1/watch.js'
import { cancelled } from '../../src/lib/abort.js'
import { ChangeLog } from '../../src/lib/fanout.js'
import type { Parsed } from '../../src/lib/parsed.js'
import { Ticker } from '../../src/lib/ticker.js'
import type { StreamHandler } from '../../src/server/call.js'
import { bridgeServiceDefinition } from '../../src/server/definition.js'
import { watchAddressesOn, watchTapStatsOn, watchTapsOn } from '../../src/server/watch.js'
import { within } from '../support/until.js'

function must<T>(result: Parsed<T>): T {
  assert.ok(result.ok)
  return result.value
}

const vlan = must(parseVlanId(10))
const where = { bridge: undefined, vlan, qinqOuterVlan: undefined }
const tap = { name: must(parsePortName('one')), mac: undefined, qos: noQos, addresses: [], ...where } as const
const backing = { kind: 'host' } as const

const shown: Tap = { ...tap, bond: undefined, backing, state: 'detached', ovsError: '', mtuBytes: 0 }

const record: TapRecord = { ...tap, id: 'r1', mtu: undefined, backing, policedKbps: 0, defunct: false }

const ip = must(parseEndpointIp('10.0.0.1'))
const mac = must(parseMacAddress('02:00:00:00:00:01'))
const entry = entryOf(record, { ip, mac, tag: undefined, source: 'arp', lastSeenMs: 0 }, undefined)

interface Subscribers {
  /** The bytes of the next message of each. */
  next(): Promise<readonly Buffer[]>
}

/** A hundred subscribers of one RPC that ask for the same. */
function subscribe<Request, Response>(
  handler: StreamHandler<Request, Response>,
  { requestDeserialize, responseSerialize }: MethodDefinition<Request, Response>,
  signal: AbortSignal,
): Subscribers {
  const request = requestDeserialize(Buffer.alloc(0))
  const all = Array.from({ length: 100 }, () =>
    handler(request, { signal, caller: 'test', method: 'Watch' })[Symbol.asyncIterator](),
  )
  return {
    next: async () => {
      const results = await within('a message for each', 5_000, Promise.all(all.map(one => one.next())))
      return results.map(result => {
        assert.ok(result.done !== true)
        return responseSerialize(result.value)
      })
    },
  }
}

function assertShared(bytes: readonly Buffer[]): void {
  assert.equal(bytes.length, 100)
  assert.ok((bytes[0]?.length ?? 0) > 0)
  assert.equal(new Set(bytes).size, 1)
}

/** The snapshot, and what is published then, are made once. */
async function assertLogShared(subscribers: Subscribers, publish: () => void): Promise<void> {
  assertShared(await subscribers.next())
  const changed = subscribers.next()
  publish()
  assertShared(await changed)
}

test('what goes to a hundred subscribers is made into a message once, and the message into bytes once', async () => {
  const { watchTaps, watchAddresses, watchTapStats } = bridgeServiceDefinition()
  const abort = new AbortController()
  const { signal } = abort
  setMaxListeners(0, signal)
  const options = { epoch: 'e1', maxChanges: 100, heartbeatMs: 60_000 }
  const taps = new ChangeLog<Tap>(options)
  const feed: TapFeed = { log: taps, touch: () => {}, [Symbol.dispose]: () => {} }
  await assertLogShared(subscribe(watchTapsOn(feed), watchTaps, signal), () =>
    taps.publish([{ key: 'one', before: undefined, after: shown }]),
  )
  const addresses = new ChangeLog<AddressEntry>(options)
  await assertLogShared(subscribe(watchAddressesOn({ log: addresses }), watchAddresses, signal), () =>
    addresses.publish([{ key: 'one', before: undefined, after: entry }]),
  )
  const ticker = new Ticker<StatsTick>()
  const ticks = subscribe(watchTapStatsOn({ watch: () => ticker.watch(signal) }), watchTapStats, signal).next()
  ticker.publish([{ tap: record, ...unmeasured }])
  assertShared(await ticks)
  abort.abort(cancelled())
})

test('a tick of many taps comes in messages that say whether more of it follow', async () => {
  const { signal } = new AbortController()
  const ticker = new Ticker<StatsTick>()
  const names = Array.from({ length: 1_001 }, (_, number) => `tap${String(number).padStart(4, '0')}`)
  const tick = names.map(name => ({ tap: { ...record, name: must(parsePortName(name)) }, ...unmeasured }))
  const watching = watchTapStatsOn({ watch: () => ticker.watch(signal) })
  const call = { signal, caller: 'test', method: 'WatchTapStats' }
  const messages = watching(WatchTapStatsRequest.fromPartial({}), call)[Symbol.asyncIterator]()
  const told: string[] = []
  for (const wanted of [true, true, false, true]) {
    const next = messages.next()
    if (told.length % names.length === 0) ticker.publish(tick)
    const message = await within('a message', 5_000, next)
    assert.ok(message.done !== true)
    told.push(...message.value.stats.map(one => one.tap))
    assert.equal(message.value.more, wanted)
  }
  assert.deepEqual(told.slice(0, names.length), names)
})
