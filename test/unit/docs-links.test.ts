import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { checkout } from '../support/readme.js'

const pages = [
  ...readdirSync(checkout).filter(name => name.endsWith('.md')),
  ...readdirSync(new URL('docs', checkout), { recursive: true, encoding: 'utf8' })
    .filter(name => name.endsWith('.md'))
    .map(name => `docs/${name}`),
]

function read(page: string): string {
  return readFileSync(new URL(page, checkout), 'utf8')
}

/** A file or folder of the checkout, or `room/name.ts` as the docs call those of src. */
function exists(path: string): boolean {
  return [path, `src/${path}`].some(candidate => existsSync(new URL(candidate, checkout)))
}

test('docs link to and name only what is there', () => {
  const wrong = pages.flatMap(page => {
    const text = read(page)
    const links = [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)].map(([, to = '']) => to)
    const named = [...text.matchAll(/`([a-z]+\/[\w./-]+)`/g)].map(([, path = '']) => path)
    const paths = named.filter(path => /^(?:src|test|scripts|bench|docs|deploy|examples)\/|\.ts$/.test(path))
    const lost = links.filter(to => !existsSync(new URL(to, new URL(page, checkout))))
    const wanting = [...lost, ...paths.filter(path => !exists(path))]
    // What `npm run bench` leaves is there once it has run.
    return wanting.filter(what => !what.includes('bench/results/')).map(what => `${page}: ${what}`)
  })
  assert.deepEqual(wrong, [])
})

test('CHANGELOG.md begins with the version that the package has', () => {
  const [, newest] = /^## (\d+\.\d+\.\d+)/m.exec(read('CHANGELOG.md')) ?? []
  const [, version] = /"version": "(.+)"/.exec(read('package.json')) ?? []
  assert.equal(newest, version)
})
