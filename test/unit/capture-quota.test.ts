import assert from 'node:assert/strict'
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { measureGrowthLimit } from '../../src/capture/quota.js'
import { until } from '../support/until.js'

test('captures may grow by what others leave of the quota, however much they have written already', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'quota-'))
  try {
    let grownBytes = 0
    const growthLimit = measureGrowthLimit(directory, 1_000, () => grownBytes)
    const capture = (bytes: number) => {
      appendFileSync(join(directory, 'capture'), Buffer.alloc(bytes))
      grownBytes += bytes
    }
    mkdirSync(join(directory, 'older'))
    writeFileSync(join(directory, 'older', 'file'), Buffer.alloc(100))
    assert.equal(await growthLimit(), 900)
    capture(500)
    assert.equal(await growthLimit(), 900)
    // While it is being measured.
    const limit = growthLimit()
    capture(100)
    assert.equal(await limit, 900)
    // What others do is seen after a while, but at once before anything is refused.
    writeFileSync(join(directory, 'more'), Buffer.alloc(100))
    await until('the other file counts', async () => (await growthLimit()) === 800)
    capture(200)
    rmSync(join(directory, 'more'))
    assert.equal(await growthLimit(), 900)
  } finally {
    rmSync(directory, { recursive: true })
  }
})
