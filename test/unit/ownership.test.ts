import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { checkout } from '../support/readme.js'

test('what marks rows and devices as ours is spelled in one file', () => {
  const source = new URL('src/', checkout)
  const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter(file => file.endsWith('.ts'))
  const spelling = files.filter(file => /['"`]ovs-bridged:(?! )/.test(readFileSync(new URL(file, source), 'utf8')))
  assert.deepEqual(spelling, ['bridge/ownership-keys.ts'])
})
