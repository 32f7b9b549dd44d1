import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { apiFile, apiPage } from '../support/api-doc.js'

test('docs/api.md tells the contract as it is', () => {
  const wanted = apiPage()
  if (process.env['OVS_BRIDGED_WRITE_API'] === '1') writeFileSync(apiFile, wanted)
  const told = existsSync(apiFile) ? readFileSync(apiFile, 'utf8') : ''
  assert.equal(told, wanted, 'OVS_BRIDGED_WRITE_API=1 scripts/check --lane unit --filter api-doc rewrites it')
})
