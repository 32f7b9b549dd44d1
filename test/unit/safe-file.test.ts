import assert from 'node:assert/strict'
import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  createFileBelow,
  type PathBelow,
  parsePathBelow,
  removeFileBelow,
  reopenFileBelow,
} from '../../src/lib/safe-file.js'

function below(text: string): PathBelow {
  const path = parsePathBelow(text)
  assert(path.ok, text)
  return path.value
}

function folder(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'safe-file-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}

async function codeOf(opening: Promise<unknown>): Promise<unknown> {
  const error: unknown = await opening.then(
    () => 'opened',
    (thrown: unknown) => thrown,
  )
  return error instanceof Error && 'code' in error ? error.code : error
}

test('a new file has mode 0640 whatever the umask, and goes on where it was', async () => {
  using directory = folder()
  mkdirSync(join(directory.path, 'lab'))
  const path = below('lab/flows')
  const umask = process.umask(0)
  try {
    await using file = await createFileBelow(directory.path, path)
    await file.appendFile('one ')
  } finally {
    process.umask(umask)
  }
  await using again = await reopenFileBelow(directory.path, path)
  await again.appendFile('two')
  assert.equal(readFileSync(join(directory.path, path), 'utf8'), 'one two')
  assert.equal(statSync(join(directory.path, path)).mode & 0o7777, 0o640)
  await removeFileBelow(directory.path, path)
  assert.equal(await codeOf(reopenFileBelow(directory.path, path)), 'ENOENT')
})

test('no file is overwritten, and no symbolic link is followed below the directory', async () => {
  using directory = folder()
  using outside = folder()
  const at = (name: string) => join(directory.path, name)
  writeFileSync(at('there'), 'kept')
  writeFileSync(join(outside.path, 'target'), 'kept')
  symlinkSync(join(outside.path, 'target'), at('link'))
  symlinkSync(join(outside.path, 'new'), at('dangling'))
  symlinkSync(outside.path, at('away'))
  linkSync(join(outside.path, 'target'), at('hard'))
  mkdirSync(at('folder'))
  const created = async (name: string) => await codeOf(createFileBelow(directory.path, below(name)))
  assert.equal(await created('there'), 'EEXIST')
  assert.equal(await created('link'), 'EEXIST')
  assert.equal(await created('dangling'), 'EEXIST')
  assert.equal(await created('folder'), 'EEXIST')
  assert.equal(await created('away/new'), 'ENOTDIR')
  assert.equal(await created('there/new'), 'ENOTDIR')
  assert.equal(await created('nowhere/new'), 'ENOENT')
  const reopened = async (name: string) => await codeOf(reopenFileBelow(directory.path, below(name)))
  assert.equal(await reopened('link'), 'ELOOP')
  assert.equal(await reopened('away/target'), 'ENOTDIR')
  assert.equal(await reopened('hard'), 'EINVAL')
  assert.equal(await reopened('folder'), 'EISDIR')
  assert.equal(readFileSync(join(outside.path, 'target'), 'utf8'), 'kept')
  assert.equal(readFileSync(at('there'), 'utf8'), 'kept')
})
