import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { ErrorReason } from '../../src/gen/ovs/bridge/v1/error.js'
import { checkout } from '../support/readme.js'

test('docs/errors.md tells every reason of the contract once, and no others', () => {
  const text = readFileSync(new URL('docs/errors.md', checkout), 'utf8')
  const told = [...text.matchAll(/^\| `([A-Z_]+)` \|/gm)].map(([, reason]) => reason)
  const reasons = Object.keys(ErrorReason).filter(
    name => Number.isNaN(Number(name)) && !['UNSPECIFIED', 'UNRECOGNIZED'].includes(name),
  )
  assert.deepEqual(told.sort(), reasons.sort())
})
