import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { laneTest } from '../support/lane.js'
import { enterNamespace, linkNames } from '../support/namespace.js'
import { checkout } from '../support/readme.js'
import { within } from '../support/until.js'

/** What `npm start` does, up to where it serves, and then to its end by SIGTERM: the time until it served, in ms. */
async function start(directory: string): Promise<number> {
  const flags = ['--state-dir', join(directory, 'state'), '--listen', `unix:${join(directory, 'rpc.sock')}`]
  const startedAt = performance.now()
  // A group of its own: npm's, the shell's, and then the daemon's.
  const child = spawn('npm', ['start', '--', ...flags], {
    cwd: fileURLToPath(checkout),
    stdio: ['ignore', 'pipe', 'inherit'],
    detached: true,
  })
  const closed = once(child, 'close')
  try {
    await within('npm start serves', 60_000, served(child.stdout))
    return performance.now() - startedAt
  } finally {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGTERM')
    await within('it ends', 20_000, closed)
  }
}

async function served(stdout: NodeJS.ReadableStream): Promise<void> {
  for await (const line of createInterface({ input: stdout })) if (line.includes('listens on')) return
  throw new Error('it ended before it served')
}

laneTest('a second npm start serves within 3 s', { only: 'userspace', timeoutMs: 180_000 }, async context => {
  using _namespace = enterNamespace()
  const directory = mkdtempSync(join(tmpdir(), 'start-'))
  context.after(() => rmSync(directory, { recursive: true, force: true }))
  // The first may have to compile.
  await start(directory)
  // A busy machine may hold up one of them.
  const tookMs: number[] = []
  do tookMs.push(await start(directory))
  while (tookMs.length < 12 && Math.min(...tookMs) > 3_000)
  assert(Math.min(...tookMs) <= 3_000, `it took ${tookMs.map(Math.round).join(', ')} ms`)
  assert.deepEqual(linkNames(), ['lo'])
})
