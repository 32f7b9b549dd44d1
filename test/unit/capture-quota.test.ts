import assert from 'node:assert/strict'
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Quota, QuotaView } from '../../src/capture/quota.js'
import { until } from '../support/until.js'

test('captures may grow by what others leave of the quota, however much they have written already', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'quota-'))
  try {
    const quota = new Quota({ directory, quotaBytes: 1_000 })
    const asked: number[] = []
    const view = new QuotaView(quota.ledger, ticket => asked.push(ticket))
    const capture = (bytes: number) => {
      appendFileSync(join(directory, 'capture'), Buffer.alloc(bytes))
      view.grow(bytes)
    }
    mkdirSync(join(directory, 'older'))
    writeFileSync(join(directory, 'older', 'file'), Buffer.alloc(100))
    assert.equal(await quota.hasRoom(), true)
    assert.equal(view.leftBytes, 900)
    capture(500)
    await quota.hasRoom()
    assert.equal(view.leftBytes, 400)
    // While it is being measured.
    const measured = quota.measure()
    capture(100)
    await measured
    assert.equal(view.leftBytes, 300)
    // What others do is seen after a while, but at once before anything is refused.
    writeFileSync(join(directory, 'more'), Buffer.alloc(100))
    await until('the other file counts', async () => (await quota.hasRoom()) && view.leftBytes === 200)
    capture(200)
    rmSync(join(directory, 'more'))
    assert.equal(view.leftBytes, 0)
    assert.equal(await quota.hasRoom(), true)
    assert.equal(view.leftBytes, 100)
    capture(100)
    assert.equal(await quota.hasRoom(), false)

    const ticket = view.requestMeasure()
    assert.deepEqual([asked, view.isMeasured(ticket)], [[ticket], false])
    view.answer(ticket)
    assert.equal(view.isMeasured(ticket), true)
    assert.equal(view.isMeasured(view.requestMeasure()), false)
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('a measurement that is asked for sees what was removed before, though another is under way', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'quota-'))
  try {
    for (let i = 0; i < 200; i++) writeFileSync(join(directory, `file-${i}`), Buffer.alloc(10))
    const quota = new Quota({ directory, quotaBytes: 3_000 })
    const view = new QuotaView(quota.ledger, () => {})
    const first = quota.measure()
    const measurements = [first]
    for (let i = 0; i < 200; i++) {
      rmSync(join(directory, `file-${i}`))
      measurements.push(quota.measure())
    }
    await Promise.all(measurements)
    assert.equal(view.leftBytes, 3_000)
  } finally {
    rmSync(directory, { recursive: true })
  }
})
