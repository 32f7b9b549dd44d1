import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { laneTest } from '../support/lane.js'
import { startOvsdbServer } from '../support/ovsdb-server.js'

const run = promisify(execFile)
const guide = readFileSync('docs/ovsdb.md', 'utf8')

/** Each example: its file, its text in the guide, and what the guide says that it prints. */
const examples = [...guide.matchAll(/<!-- (examples\/\S+) -->\n```ts\n([^]*?)```\n[^]*?```text\n([^]*?)```/g)]

laneTest(
  'the examples of the guide are the files, run, and print what the guide says',
  { only: 'userspace' },
  async () => {
    await using server = await startOvsdbServer()
    await server.vsctl('add-br', 'br0', '--', 'add-port', 'br0', 'tap0', 'tag=10')
    assert.ok(examples.length >= 3)
    for (const [, file = '', text, printed = ''] of examples) {
      assert.equal(text, readFileSync(file, 'utf8'), `${file} stands in the guide`)
      const { stdout } = await run('node', [`build/${file.replace(/ts$/, 'js')}`, server.socketPath])
      // A transaction has no order within itself, and a set neither.
      assert.deepEqual(words(stdout), words(printed), `what ${file} prints`)
    }
  },
)

function words(text: string): string[] {
  return text.split(/[\s,]+/).sort()
}
