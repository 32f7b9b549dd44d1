import assert from 'node:assert/strict'
import { test } from 'node:test'
import { noQos, type Qos } from '../../src/bridge/qos-parse.js'
import { isInForce, isSameQdisc, qdiscOf, qosOf } from '../../src/bridge/qos-qdisc.js'
import { bytes, encodeAttributes, text } from '../../src/kernel/netlink/attribute.js'
import { concatenate } from '../../src/kernel/netlink/message.js'
import { decodeRootQdisc, encodeQdisc, encodeQdiscQuery, ourHandles } from '../../src/kernel/netlink/qdisc-message.js'

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
  assert.deepEqual([spec.bytesPerSecond, spec.loss], [625_000, 2 ** 31])
})

function limitOf(qos: Partial<Qos>): number {
  const spec = qdiscOf({ ...noQos, ...qos }, 1500)
  return spec?.kind === 'netem' ? spec.limitPackets : 0
}

test('a netem without a rate has room for what is on its way, within bounds', () => {
  assert.deepEqual(
    [1, 50e6, 200e9].map(delayNs => limitOf({ delayNs })),
    [1_001, 63_500, 100_000],
  )
  assert.equal(limitOf({ lossPercent: 1 }), 1_000)
})

test('in a netem with a rate large frames wait 100 ms for their turn, and no more than ten of them where that is longer', () => {
  const waitMs = (bitsPerSecond: number) => (limitOf({ bitsPerSecond, lossPercent: 1 }) * 1522 * 8e3) / bitsPerSecond
  for (const bitsPerSecond of [2e6, 5e6, 100e6, 1e9]) {
    const ms = waitMs(bitsPerSecond)
    assert(ms >= 100 && ms < 110, `${bitsPerSecond}: ${ms} ms`)
  }
  assert.equal(limitOf({ bitsPerSecond: 64e3, lossPercent: 1 }), 10)
})

test('what is on its way over a netem with a rate has room beside what waits, as a mix of packets', () => {
  const bitsPerSecond = 5e6
  const flight = limitOf({ bitsPerSecond, delayNs: 40e6, jitterNs: 10e6 }) - limitOf({ bitsPerSecond, lossPercent: 1 })
  assert.equal(flight, Math.ceil((625_000 * 0.05) / 340))
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

test('a burst of another size is seen, and what the kernel makes of ours is not', () => {
  const burst = (bitsPerSecond: number, mtuBytes: number, change: number) => {
    const spec = qdiscOf({ ...noQos, bitsPerSecond }, mtuBytes)
    assert(spec?.kind === 'tbf')
    return isSameQdisc(spec, { ...spec, burstBytes: spec.burstBytes + change })
  }
  for (const bitsPerSecond of [1e3, 10e6, 1e12]) {
    assert(burst(bitsPerSecond, 1500, 1))
    assert(!burst(bitsPerSecond, 1500, 200 + bitsPerSecond / 1e6))
  }
  // Of 524 s the kernel shows what is left after 274.9 s.
  assert(burst(1e3, 65_535, -Math.round(125 * 64 * 2 ** 32 * 1e-9)))
})

/** `struct tcmsg` of our root with options. */
function rootOf(kind: 'tbf' | 'netem', options: Uint8Array): Uint8Array {
  return concatenate(encodeQdiscQuery(7, ourHandles[kind]), encodeAttributes([text(1, kind), bytes(2, options)]))
}

const words = (...values: readonly number[]) => new Uint8Array(new Uint32Array(values).buffer)

function netemWith(type: number, value: Uint8Array, gap = 0): Uint8Array {
  return rootOf('netem', concatenate(words(0, 1000, 0, gap, 0, 0), encodeAttributes([bytes(type, value)])))
}

/** What `struct tc_netem_qopt` and an attribute can say that we never do: TCA_NETEM_… of <linux/pkt_sched.h>. */
const foreign: Readonly<Record<string, Uint8Array>> = {
  'a gap': rootOf('netem', words(0, 1000, 0, 5, 0, 0)),
  'a correlation': netemWith(1, words(1, 0, 0)),
  'a correlation of losses': netemWith(1, words(0, 1, 0)),
  'a correlation of reordering': netemWith(3, words(9, 1), 1),
  'a correlation of corruption': netemWith(4, words(9, 1)),
  'a state of losses': netemWith(5, words(1)),
  'an overhead': netemWith(6, words(9, 4, 0, 0)),
  ECN: netemWith(7, words(1)),
  'a slot': netemWith(12, words(1, 0, 0, 0, 0, 0, 0, 0, 0, 0)),
  'a peak rate': rootOf('tbf', encodeAttributes([bytes(1, words(0x0100, 0, 1000, 0, 0, 9, 3000, 100, 0))])),
  'the lengths of another link layer': rootOf(
    'tbf',
    encodeAttributes([bytes(1, words(0x0200, 0, 1000, 0, 0, 0, 3000, 100, 0))]),
  ),
  'an overhead of a tbf': rootOf(
    'tbf',
    encodeAttributes([bytes(1, words(0x0004_0100, 0, 1000, 0, 0, 0, 3000, 100, 0))]),
  ),
}
for (const [what, payload] of Object.entries(foreign)) {
  test(`a qdisc of ours with ${what} is not as we set it`, () => {
    const qdisc = decodeRootQdisc(payload)?.qdisc
    assert(qdisc?.ours && qdisc.spec !== undefined)
    assert(!isInForce(qdisc.spec, qdisc))
    assert(isInForce(qdisc.spec, { ...qdisc, hasMore: false }))
  })
}
