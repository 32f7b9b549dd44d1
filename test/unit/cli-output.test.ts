import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { constants, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { test } from 'node:test'
import { openOutput } from '../../src/cli/output.js'
import { abortScope, cancelled } from '../../src/lib/abort.js'

test('a named pipe is waited for until it has a reader, or a signal ends the wait; a file is not', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'output-'))
  try {
    const fifo = join(directory, 'fifo')
    execFileSync('mkfifo', [fifo])
    const left = abortScope()
    const unread = openOutput(fifo, left.signal)
    left.abort(cancelled())
    assert.equal(await unread, undefined)

    const { signal } = abortScope()
    const opening = openOutput(fifo, signal)
    const reader = await open(fifo, constants.O_RDONLY | constants.O_NONBLOCK)
    const out = await opening
    assert(out !== undefined)
    out.end('packets')
    await finished(out)
    assert.equal((await reader.read(Buffer.alloc(7), 0, 7)).bytesRead, 7)
    await reader.close()

    const file = await openOutput(join(directory, 'file'), signal)
    assert(file !== undefined)
    file.end('packets')
    await finished(file)
    assert.equal(readFileSync(join(directory, 'file'), 'utf8'), 'packets')
  } finally {
    rmSync(directory, { recursive: true })
  }
})
