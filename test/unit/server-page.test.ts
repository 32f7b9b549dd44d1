import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BridgeError } from '../../src/bridge/problem.js'
import { page } from '../../src/server/page.js'

const named = (name: string) => name
const numbered = (count: number) => Array.from({ length: count }, (_, i) => `tap${String(i).padStart(5, '0')}`)

test('items come ordered by name, whatever order they stand in', () => {
  assert.deepEqual(page(['b', 'c', 'a'], named, { pageSize: 0, pageToken: '' }), {
    items: ['a', 'b', 'c'],
    nextPageToken: '',
  })
})

test('the pages together hold every item once', () => {
  const seen: string[] = []
  let pageToken = ''
  do {
    const { items, nextPageToken } = page(numbered(25), named, { pageSize: 10, pageToken })
    seen.push(...items)
    pageToken = nextPageToken
  } while (pageToken !== '')
  assert.deepEqual(seen, numbered(25))
})

test('a last page that is full has no next one', () => {
  assert.equal(page(numbered(10), named, { pageSize: 10, pageToken: '' }).nextPageToken, '')
})

test('what goes between two pages hides nothing', () => {
  const first = page(['a', 'b', 'c', 'd'], named, { pageSize: 2, pageToken: '' })
  assert.deepEqual(page(['c', 'd'], named, { pageSize: 2, pageToken: first.nextPageToken }).items, ['c', 'd'])
})

for (const pageSize of [0, 5_000]) {
  test(`a page size of ${pageSize} gives at most 1,000`, () => {
    assert.equal(page(numbered(1_500), named, { pageSize, pageToken: '' }).items.length, 1_000)
  })
}

test('a page ends before its items outgrow a message, and holds at least one', () => {
  const pages: (readonly string[])[] = []
  let pageToken = ''
  do {
    const { items, nextPageToken } = page(numbered(5), named, { pageSize: 0, pageToken }, item =>
      item === 'tap00002' ? 5 * 2 ** 20 : 2 ** 20,
    )
    pages.push(items)
    pageToken = nextPageToken
  } while (pageToken !== '')
  assert.deepEqual(pages, [['tap00000', 'tap00001'], ['tap00002'], ['tap00003', 'tap00004']])
})

for (const pageToken of ['x', 'a', 'b', 'aYQ==', 'a!!']) {
  test(`${JSON.stringify(pageToken)} is refused as a token, by its field`, () => {
    assert.throws(
      () => page(['a'], named, { pageSize: 0, pageToken }),
      (error: unknown) =>
        error instanceof BridgeError &&
        error.problem.kind === 'invalid' &&
        error.problem.violations[0]?.field === 'page_token',
    )
  })
}
