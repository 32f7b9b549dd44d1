import assert from 'node:assert/strict'
import { test } from 'node:test'
import { noQos } from '../../src/bridge/qos-parse.js'
import { isSameQdisc, qdiscOf, qosOf } from '../../src/bridge/qos-qdisc.js'
import { decodeRootQdisc, encodeQdisc } from '../../src/kernel/netlink/qdisc-message.js'

test('nothing asked for is no qdisc', () => {
  assert.equal(qdiscOf(noQos, 1500), undefined)
})

test('a rate alone is a tbf with 10 ms of burst and 20 ms of queue', () => {
  assert.deepEqual(qdiscOf({ ...noQos, bitsPerSecond: 100e6 }, 1500), {
    kind: 'tbf',
    bytesPerSecond: 12_500_000,
    burstBytes: 125_000,
    limitBytes: 375_000,
  })
})

test('a burst takes at least one frame, however slow the link and large the MTU', () => {
  const slow = qdiscOf({ ...noQos, bitsPerSecond: 1e3 }, 9000)
  assert(slow?.kind === 'tbf' && slow.burstBytes === 9022)
})

test('a rate with anything else is a netem with its own rate', () => {
  const spec = qdiscOf({ ...noQos, bitsPerSecond: 5e6, lossPercent: 50 }, 1500)
  assert(spec?.kind === 'netem')
  assert.deepEqual([spec.bytesPerSecond, spec.loss, spec.limitPackets], [625_000, 2 ** 31, 1_000])
})

test('a netem has room for what is on its way, within bounds', () => {
  const limit = (delayNs: number) => {
    const spec = qdiscOf({ ...noQos, delayNs }, 1500)
    return spec?.kind === 'netem' ? spec.limitPackets : 0
  }
  assert.deepEqual([limit(1), limit(50e6), limit(200e9)], [1_001, 63_500, 100_000])
})

test('what a qdisc does reads as what was asked for', () => {
  const all = { jitterNs: 5, duplicatePercent: 0.1, corruptPercent: 33.3333333, reorderPercent: 100 }
  const qos = { ...all, bitsPerSecond: 8e9, lossPercent: 0.0000001, delayNs: 274e9 }
  const spec = qdiscOf(qos, 1500)
  assert(spec !== undefined)
  assert.deepEqual(qosOf(spec), qos)
})

const specs = [
  qdiscOf({ ...noQos, bitsPerSecond: 1e3 }, 1500),
  qdiscOf({ ...noQos, bitsPerSecond: 10e6 }, 1500),
  qdiscOf({ ...noQos, bitsPerSecond: 1e12 }, 1500),
  qdiscOf({ ...noQos, lossPercent: 100 }, 1500),
  qdiscOf({ ...noQos, bitsPerSecond: 1e12, delayNs: 274e9, jitterNs: 2e9, reorderPercent: 1 }, 1500),
]
for (const spec of specs) {
  test(`${JSON.stringify(spec)} comes back from its message`, () => {
    assert(spec !== undefined)
    const read = decodeRootQdisc(encodeQdisc(7, spec))
    assert.equal(read?.index, 7)
    assert.equal(read?.qdisc.ours, true)
    // A burst is known to the kernel as a time.
    if (spec.kind === 'netem') assert.deepEqual(read?.qdisc.spec, spec)
    else if (spec.bytesPerSecond > 125) assert(isSameQdisc(read?.qdisc.spec, spec))
  })
}

test('qdiscs differ when one of their settings does', () => {
  const netem = qdiscOf({ ...noQos, delayNs: 5 }, 1500)
  assert(isSameQdisc(netem, qdiscOf({ ...noQos, delayNs: 5 }, 9000)))
  assert(!isSameQdisc(netem, qdiscOf({ ...noQos, delayNs: 5, lossPercent: 1 }, 1500)))
  assert(!isSameQdisc(netem, undefined))
  assert(!isSameQdisc(netem, qdiscOf({ ...noQos, bitsPerSecond: 1e6 }, 1500)))
})
