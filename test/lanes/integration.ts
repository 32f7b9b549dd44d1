/**
 * Entry point of both lanes: loads every integration test into this process, which runs its share of them one by one.
 * A single argument keeps the files whose name contains it.
 */
import { readdir } from 'node:fs/promises'
import { afterEach, beforeEach } from 'node:test'
import { runLaneTests, timeoutMsOf } from '../support/lane.js'

const filter = process.argv[2] ?? ''
const folder = new URL('../integration/', import.meta.url)
const files = (await readdir(folder)).filter(name => name.endsWith('.test.js') && name.includes(filter)).sort()

// node:test ends a test that has a timeout of its own. This is for those that have none, or that left something open:
// without it they would hold the lane until its deadline, saying nothing.
let watch: NodeJS.Timeout | undefined
function expectMoreWithin(ms: number, what: string): void {
  clearTimeout(watch)
  watch = setTimeout(() => {
    process.stderr.write(`${ms / 1000} s ${what}; open: ${process.getActiveResourcesInfo().join(' ')}\n`)
    process.exit(1)
  }, ms).unref()
}
beforeEach(({ name }) => expectMoreWithin(timeoutMsOf(name) + 30_000, `in "${name}"`))
afterEach(({ name }) => expectMoreWithin(30_000, `since "${name}"`))

for (const file of files) await import(new URL(file, folder).href)
await runLaneTests()
expectMoreWithin(10_000, 'after the last test')
