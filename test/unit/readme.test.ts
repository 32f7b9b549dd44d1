import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { readmeFile, withTables } from '../support/readme.js'

test('README.md lists every call and every flag as they are', () => {
  const readme = readFileSync(readmeFile, 'utf8')
  const wanted = withTables(readme)
  if (process.env['OVS_BRIDGED_WRITE_README'] === '1') writeFileSync(readmeFile, wanted)
  else assert.equal(readme, wanted, 'OVS_BRIDGED_WRITE_README=1 scripts/check --lane unit --filter readme rewrites it')
})
