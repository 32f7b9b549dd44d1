import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parseConfig } from '../../src/config.js'
import { isRecord } from '../../src/lib/json-rpc.js'
import { checkout } from '../support/readme.js'

const read = (file: string) => readFileSync(new URL(file, checkout), 'utf8')
const recipe = read('deploy/Containerfile')

/** The last group of each match in the recipe. */
function said(pattern: RegExp): readonly string[] {
  const found = Array.from(recipe.matchAll(pattern), match => match.at(-1) ?? '')
  assert(found.length > 0, String(pattern))
  return found
}

test('the container has the Debian packages that a start installs', () => {
  const [, wanted] = /^runtime_packages='(.+)'$/m.exec(read('scripts/setup')) ?? []
  assert.deepEqual(said(/apt-get install -y --no-install-recommends (.+?) \\$/gm), [wanted])
})

test('the container is made and run with a Node.js that is new enough', () => {
  const [, oldest] = /"node": ">=(\d+)"/.exec(read('package.json')) ?? []
  for (const version of said(/^FROM \S+\/node:(\d+)-/gm)) assert(Number(version) >= Number(oldest), version)
})

test('the container is of the package that npm packs here, and runs its program', () => {
  const manifest: unknown = JSON.parse(read('package.json'))
  assert(isRecord(manifest) && isRecord(manifest['bin']))
  for (const tarball of said(/(\S*\.tgz)/g)) assert.equal(tarball, `/${String(manifest['name'])}-*.tgz`)
  const [program = ''] = said(/^ENTRYPOINT \["(.+)"\]$/gm)
  assert(program in manifest['bin'], program)
})

test('what the container does by itself, and what its first lines tell to type, is understood', () => {
  const commands = said(/^CMD \["(.+)"\]$/gm)
  const typed = said(/ ovs-bridged (serve.*)$/gm)
  for (const words of [...commands, ...typed]) {
    assert.equal(parseConfig(words.split(' '), {}, 'test').kind, 'serve', words)
  }
})
