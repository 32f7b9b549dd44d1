import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bitRate, painted, table } from '../../src/cli/table.js'

test('columns are as wide as what stands in them, and lines end with text', () => {
  const rows = [
    ['one', '', '3'],
    ['somewhat longer', 'x', ''],
  ]
  assert.equal(
    table(['NAME', 'B', 'COUNT'], rows),
    'NAME             B  COUNT\none                 3\nsomewhat longer  x\n',
  )
})

test('a colour is for a terminal alone, and not where NO_COLOR says so', () => {
  assert.equal(painted('text', 'red', { isTTY: true }, {}), '\x1b[31mtext\x1b[0m')
  assert.equal(painted('text', 'red', { isTTY: true }, { NO_COLOR: '1' }), 'text')
  assert.equal(painted('text', 'red', {}, {}), 'text')
})

test('a rate has three digits and a decimal unit', () => {
  const rates = [0, 1, 124.9, 125, 1_250, 1_201_250, 124_937_499, 125_000_000, 1e15]
  assert.deepEqual(rates.map(bitRate), ['0', '8', '999', '1.00k', '10.0k', '9.61M', '999M', '1.00G', '8000T'])
})
