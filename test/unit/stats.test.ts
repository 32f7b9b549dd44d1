import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatCounted, parseCounted } from '../../src/bridge/counted.js'
import { countedFrom, noCounters, readStatistics, seenByEndpoint } from '../../src/bridge/counters.js'
import { newLinkDumps } from '../../src/bridge/link-dumps.js'
import { average, CounterBases, type DeviceReading, Meter } from '../../src/bridge/meter.js'
import type { Moment } from '../../src/lib/moment.js'

function at(seconds: number): Moment {
  return { steadyMs: seconds * 1_000, epochMs: 1_700_000_000_000 + seconds * 1_000 }
}

function device(txBytes: number, ifindex = 7): DeviceReading {
  return { ifindex, counters: { ...noCounters, txBytes: BigInt(txBytes) } }
}

/** A meter that has read one tap's `txBytes` every 5 s. */
function metered(...txBytes: readonly number[]): Meter {
  const meter = new Meter(new CounterBases())
  for (const [index, bytes] of txBytes.entries()) {
    meter.take([{ id: 'a', device: device(bytes) }], at(index * 5), 5_000)
  }
  return meter
}

test('the newest of n intervals weighs n, the oldest 1', () => {
  const rates = [10, 20, 60].map(tx => ({ rx: 0, tx }))
  assert.deepEqual(average(rates), { rate: { rx: 0, tx: (10 + 40 + 180) / 6 }, intervals: 3 })
})

test('no more than ten intervals are averaged', () => {
  const { intervals, rate } = metered(...Array.from({ length: 14 }, (_, i) => i * 500)).measured('a')
  assert.deepEqual([intervals, rate.tx], [10, 100])
})

test('one reading is no rate', () => {
  const { intervals, rate, total, epochMs } = metered(500).measured('a')
  assert.deepEqual([intervals, rate, total.txBytes, epochMs], [0, { rx: 0, tx: 0 }, 500n, at(0).epochMs])
})

test('a rate is over the time that has passed, not over the interval that was meant', () => {
  const meter = metered(0)
  meter.take([{ id: 'a', device: device(1_000) }], at(8), 5_000)
  assert.equal(meter.measured('a').rate.tx, 125)
})

test('counters beyond 2^53 lose nothing', () => {
  const meter = new Meter(new CounterBases())
  const counters = (txBytes: bigint) => ({ ifindex: 7, counters: { ...noCounters, txBytes } })
  meter.take([{ id: 'a', device: counters(2n ** 63n) }], at(0), 5_000)
  meter.take([{ id: 'a', device: counters(2n ** 63n + 5n) }], at(5), 5_000)
  assert.deepEqual([meter.measured('a').rate.tx, meter.measured('a').total.txBytes], [1, 2n ** 63n + 5n])
})

test('counters that begin again give no rate for that interval, and the total goes on', () => {
  const meter = metered(1_000, 1_500, 200, 700)
  assert.deepEqual(meter.measured('a').rate.tx, 100)
  assert.deepEqual([meter.measured('a').intervals, meter.measured('a').total.txBytes], [2, 2_200n])
})

test('a device made anew gives no rate for that interval, however much it has counted, and the total goes on', () => {
  const meter = metered(1_000, 1_500)
  meter.take([{ id: 'a', device: device(9_000, 8) }], at(10), 5_000)
  assert.deepEqual([meter.measured('a').intervals, meter.measured('a').total.txBytes], [1, 10_500n])
})

test('what a device counts while its tap is detached makes no rate', () => {
  const meter = metered(0, 500)
  meter.take([{ id: 'a', device: undefined }], at(10), 5_000)
  assert.deepEqual([meter.measured('a').intervals, meter.measured('a').total.txBytes], [0, 500n])
  meter.take([{ id: 'a', device: device(1_000_000) }], at(15), 5_000)
  assert.equal(meter.measured('a').intervals, 0)
  meter.take([{ id: 'a', device: device(1_000_500) }], at(20), 5_000)
  assert.deepEqual([meter.measured('a').intervals, meter.measured('a').rate.tx], [1, 100])
})

test('a tap is known from when it is greeted until it is not kept, though nothing is counted meanwhile', () => {
  const meter = new Meter(new CounterBases())
  meter.greet({ id: 'a', device: undefined }, at(0))
  assert.equal(meter.knows('a'), false)
  meter.greet({ id: 'a', device: device(500) }, at(5))
  meter.greet({ id: 'b', device: device(0) }, at(5))
  meter.keepOnly(new Set(['b']))
  assert.deepEqual([meter.knows('a'), meter.knows('b'), meter.size], [false, true, 1])
})

test('a tap made anew under its name begins at nothing', () => {
  const meter = metered(0, 500)
  meter.take([{ id: 'b', device: device(0, 8) }], at(10), 5_000)
  assert.deepEqual([meter.measured('a').epochMs, meter.measured('b').intervals], [undefined, 0])
})

test('what former devices had counted goes on in the next run of the service, for as long as the device is the same', () => {
  const bases = new CounterBases()
  const meter = new Meter(bases)
  meter.take([{ id: 'a', device: device(900) }], at(0), 5_000)
  assert.equal(bases.get('a'), undefined)
  meter.take([{ id: 'a', device: device(100, 8) }], at(5), 5_000)
  const kept = bases.get('a')
  assert.ok(kept)
  const counted = parseCounted(formatCounted(kept))
  const next = (ifindex: number) => {
    const later = new Meter(new CounterBases())
    later.take([{ id: 'a', counted, device: device(150, ifindex) }], at(10), 5_000)
    return later.measured('a')
  }
  assert.deepEqual([next(8).total.txBytes, next(8).intervals], [1_050n, 0])
  assert.equal(next(9).total.txBytes, 150n)
})

for (const damaged of ['', '7', '7 1 2 3 4 5 6 7', '7 1 2 3 4 5 6 7 x', '-7 1 2 3 4 5 6 7 8']) {
  test(`"${damaged}" tells nothing of what was counted`, () => assert.equal(parseCounted(damaged), undefined))
}

test('two sources go on from the same total when a device is made anew', () => {
  const bases = new CounterBases()
  const [slow, fast] = [new Meter(bases), new Meter(bases)]
  slow.take([{ id: 'a', device: device(1_000) }], at(0), 5_000)
  fast.take([{ id: 'a', device: device(1_200) }], at(1), 1_000)
  fast.take([{ id: 'a', device: device(50, 8) }], at(2), 1_000)
  slow.take([{ id: 'a', device: device(80, 8) }], at(5), 5_000)
  assert.deepEqual([fast.measured('a').total.txBytes, slow.measured('a').total.txBytes], [1_250n, 1_280n])
})

test('a source that tells of a former device once more adds it to nothing twice', () => {
  const bases = new CounterBases()
  const [slow, fast] = [new Meter(bases), new Meter(bases)]
  slow.take([{ id: 'a', device: device(1_000) }], at(0), 5_000)
  fast.take([{ id: 'a', device: device(1_200) }], at(4), 1_000)
  fast.take([{ id: 'a', device: device(50, 8) }], at(5), 1_000)
  slow.take([{ id: 'a', device: device(1_200) }], at(5), 5_000)
  assert.deepEqual([slow.measured('a').total.txBytes, slow.measured('a').rate.tx], [1_200n, 40])
  fast.take([{ id: 'a', device: device(150, 8) }], at(6), 1_000)
  assert.deepEqual([fast.measured('a').total.txBytes, fast.measured('a').rate.tx], [1_350n, 100])
})

test('intervals in which nothing was told count as nothing sent', () => {
  const meter = metered(0, 500)
  const idle = [{ id: 'a', device: device(500) }]
  for (let i = 0; i < 2; i++) meter.idle(idle, at(15.5))
  assert.deepEqual([meter.measured('a').intervals, meter.measured('a').rate.tx], [3, 100 / 6])
  meter.take([{ id: 'a', device: device(1_000) }], at(20), 5_000)
  assert.deepEqual([meter.measured('a').intervals, meter.measured('a').rate.tx], [4, (100 + 400) / 10])
})

test('a report that is only late is not taken for an idle interval and a burst', () => {
  const meter = metered(0, 500)
  meter.idle([], at(10.5))
  meter.take([{ id: 'a', device: device(1_100) }], at(11), 5_000)
  assert.deepEqual([meter.measured('a').intervals, meter.measured('a').rate.tx], [2, (100 + 200) / 3])
})

test('after a silence of unknown cause the rate is that over the whole of it', () => {
  const meter = metered(0, 500)
  meter.silent()
  assert.equal(meter.measured('a').intervals, 0)
  meter.take([{ id: 'a', device: device(6_500) }], at(65), 5_000)
  assert.deepEqual([meter.measured('a').intervals, meter.measured('a').rate.tx], [1, 100])
})

for (const [by, type, datapath, from] of [
  ['vswitchd', '', 'netdev', 'switch'],
  ['vswitchd', '', 'system', 'switch'],
  ['vswitchd', 'internal', 'netdev', 'switch'],
  ['vswitchd', 'internal', 'system', 'endpoint'],
  ['vswitchd', 'tap', 'netdev', 'switch'],
  ['kernel', '', 'netdev', 'switch'],
  ['kernel', '', 'system', 'switch'],
  ['kernel', 'internal', 'netdev', 'endpoint'],
  ['kernel', 'internal', 'system', 'endpoint'],
  ['kernel', 'tap', 'netdev', 'endpoint'],
] as const) {
  test(`${by} counts an interface of type "${type}" on ${datapath} from the ${from}'s side`, () => {
    assert.equal(
      countedFrom(by, type, () => datapath),
      from,
    )
  })
}

test('what the switch received is what the endpoint sent', () => {
  const read = readStatistics(
    new Map([
      ['rx_bytes', 1],
      ['tx_bytes', 2],
      ['rx_packets', 3],
      ['tx_packets', 4],
      ['rx_dropped', 5],
      ['tx_dropped', 6],
      ['rx_errors', 7],
      ['tx_errors', 8],
    ]),
  )
  assert.ok(read)
  const { rxBytes, txBytes, rxPackets, txPackets, rxDropped, txDropped, rxErrors, txErrors } = seenByEndpoint(
    read,
    'switch',
  )
  assert.deepEqual(
    [rxBytes, txBytes, rxPackets, txPackets, rxDropped, txDropped, rxErrors, txErrors].map(Number),
    [2, 1, 4, 3, 6, 5, 8, 7],
  )
})

test('an interface of which nothing has been told has no counters', () => {
  assert.equal(readStatistics(new Map()), undefined)
})

test('whoever asks for the links at about the same time shares one dump, at whichever interval', async () => {
  let [dumps, nowMs] = [0, 1_000]
  const { latest, forget } = newLinkDumps(
    async () => {
      dumps++
      return []
    },
    () => ({ steadyMs: nowMs, epochMs: nowMs }),
  )
  const [one, two] = await Promise.all([latest(), latest()])
  nowMs += 99
  assert.deepEqual([one === two, (await latest()) === one, dumps], [true, true, 1])
  nowMs += 1
  assert.equal((await latest()).at.steadyMs, nowMs)
  assert.equal(dumps, 2)
  forget()
  await latest()
  assert.equal(dumps, 3)
})
