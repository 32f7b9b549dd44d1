import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { pageOf, type Result } from '../../bench/report.js'
import { expectPage } from '../support/page.js'
import { checkout } from '../support/readme.js'

test('bench/results/latest.md shows the record of the benches', () => {
  const results = new URL('bench/results/', checkout)
  const record = JSON.parse(readFileSync(new URL('latest.json', results), 'utf8')) as Result[]
  expectPage(new URL('latest.md', results), () => pageOf(record))
})
