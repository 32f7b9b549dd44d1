import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { defaultLimits } from '../../src/ovsdb/limits.js'

/** The rows of the table between two marks, without its head; cells trimmed. */
function tableIn(path: string, mark: string): string[][] {
  const [, text = ''] = readFileSync(path, 'utf8').split(new RegExp(`<!-- /?${mark} -->`))
  const lines = text.split('\n').filter(line => line.startsWith('|'))
  return lines.slice(2).map(line =>
    line
      .split('|')
      .slice(1, -1)
      .map(cell => cell.trim()),
  )
}

/** Every name that a test under test/ is given, as it stands in the source. */
function testNames(): Set<string> {
  const files = ['test/unit', 'test/integration'].flatMap(folder =>
    readdirSync(folder).map(name => `${folder}/${name}`),
  )
  const call = /\b(?:test|laneTest)\(\s*(['`])((?:(?!\1)[^\\]|\\.)*)\1/g
  return new Set(files.flatMap(file => [...readFileSync(file, 'utf8').matchAll(call)].map(match => match[2] ?? '')))
}

test('each rule of the protocol names a test that exists', () => {
  const known = testNames()
  const rules = tableIn('docs/rfc7047.md', 'ledger')
  assert.ok(rules.length > 40)
  for (const [clause, rule, name = ''] of rules) {
    assert.ok(known.has(name.slice(1, -1)), `${clause}, ${rule}: there is no test ${name}`)
  }
})

test('the guide has every kind of problem', () => {
  const kinds = [...readFileSync('src/ovsdb/errors.ts', 'utf8').matchAll(/readonly kind: '([a-z-]+)'/g)].map(
    match => match[1],
  )
  const documented = tableIn('docs/ovsdb.md', 'problems').map(([kind = '']) => kind.slice(1, -1))
  assert.deepEqual(documented.sort(), kinds.sort())
})

test('the guide has every limit and its default', () => {
  const documented = tableIn('docs/ovsdb.md', 'limits').map(([limit = '', value]) => [
    limit.slice(1, -1),
    Number(value),
  ])
  assert.deepEqual(Object.fromEntries(documented), defaultLimits)
})
