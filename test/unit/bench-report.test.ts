import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { pageOf, type Result } from '../../bench/report.js'
import { checkout } from '../support/readme.js'

const results = new URL('bench/results/', checkout)

test('bench/results/latest.md shows the record of the benches', () => {
  const page = new URL('latest.md', results)
  const wanted = pageOf(JSON.parse(readFileSync(new URL('latest.json', results), 'utf8')) as Result[])
  if (process.env['OVS_BRIDGED_WRITE_FIGURES'] === '1') writeFileSync(page, wanted)
  assert.equal(
    readFileSync(page, 'utf8'),
    wanted,
    'OVS_BRIDGED_WRITE_FIGURES=1 scripts/check --lane unit --filter bench-report rewrites it',
  )
})
