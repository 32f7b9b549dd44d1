import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TapFeed } from '../../src/bridge/events.js'
import type { Tap } from '../../src/bridge/inventory.js'
import { type PortName, parsePortName, parseVlanId } from '../../src/bridge/names.js'
import { noQos } from '../../src/bridge/qos-parse.js'
import { WatchTapsRequest, type WatchTapsResponse } from '../../src/gen/ovs/bridge/v1/watch.js'
import { cancelled } from '../../src/lib/abort.js'
import { ChangeLog } from '../../src/lib/fanout.js'
import type { Parsed } from '../../src/lib/parsed.js'
import { bridgeServiceDefinition } from '../../src/server/definition.js'
import { watchTapsOn } from '../../src/server/watch.js'
import { within } from '../support/until.js'

function must<T>(result: Parsed<T>): T {
  assert.ok(result.ok)
  return result.value
}

function tapNamed(name: PortName): Tap {
  const where = { bridge: undefined, vlan: must(parseVlanId(10)), bond: undefined, qinqOuterVlan: undefined }
  const device = { backing: { kind: 'host' }, state: 'detached', ovsError: '', mtuBytes: 0 } as const
  return { name, mac: undefined, qos: noQos, addresses: [], ...where, ...device }
}

test('what goes to a hundred subscribers is made into a message once, and the message into bytes once', async () => {
  const log = new ChangeLog<Tap>({ epoch: 'e1', maxChanges: 100, heartbeatMs: 60_000 })
  const feed: TapFeed = { log, touch: () => {}, [Symbol.dispose]: () => {} }
  const abort = new AbortController()
  const watch = watchTapsOn(feed)
  const { responseSerialize } = bridgeServiceDefinition().watchTaps
  const subscribers = Array.from({ length: 100 }, () =>
    watch(WatchTapsRequest.create(), { signal: abort.signal, caller: 'test', method: 'WatchTaps' })[
      Symbol.asyncIterator
    ](),
  )
  const next = async () => {
    const results = await within('a message for each', 5_000, Promise.all(subscribers.map(one => one.next())))
    return results.map(({ value }: { readonly value: WatchTapsResponse }) => responseSerialize(value))
  }
  const synced = await next()
  const changed = next()
  const name = must(parsePortName('one'))
  log.publish([{ key: name, before: undefined, after: tapNamed(name) }])
  for (const bytes of [synced, await changed]) {
    assert.equal(bytes.length, 100)
    assert.equal(new Set(bytes).size, 1)
  }
  abort.abort(cancelled())
})
