/**
 * Entry point of both lanes: loads every integration test into this one process, where node:test runs them one by one.
 * A single argument keeps the files whose name contains it.
 */
import { readdir } from 'node:fs/promises'
import { after } from 'node:test'

const filter = process.argv[2] ?? ''
const folder = new URL('../integration/', import.meta.url)
const files = (await readdir(folder)).filter(name => name.endsWith('.test.js') && name.includes(filter)).sort()

// A test that leaves a socket or a child behind would otherwise hold the lane until its deadline, saying nothing.
after(() => {
  setTimeout(() => {
    process.stderr.write(`still open 10 s after the last test: ${process.getActiveResourcesInfo().join(' ')}\n`)
    process.exit(1)
  }, 10_000).unref()
})

for (const file of files) await import(new URL(file, folder).href)
