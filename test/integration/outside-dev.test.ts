import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { laneTest } from '../support/lane.js'
import { enterNamespace, linkNames } from '../support/namespace.js'
import { checkout } from '../support/readme.js'
import { until, within } from '../support/until.js'

/** A checkout that a test may change, set up as this one. */
function copyCheckout(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), 'checkout-'))
  for (const name of ['src', 'scripts', 'package.json', 'tsconfig.json'])
    cpSync(new URL(name, checkout), join(path, name), { recursive: true })
  symlinkSync(new URL('node_modules', checkout), join(path, 'node_modules'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, maxRetries: 10, retryDelay: 20 }) }
}

laneTest(
  'npm run dev serves anew after a change, even of a file that is a thread, and ends with all that it ran',
  { only: 'userspace', isLong: true },
  async () => {
    using _namespace = enterNamespace()
    using copy = copyCheckout()
    const places = ['--state-dir', join(copy.path, 'state'), '--listen', `unix:${join(copy.path, 'rpc.sock')}`]
    const flags = [...places, '--metrics-listen', 'off', '--log-level', 'error']
    const child = spawn(process.execPath, [join(copy.path, 'scripts/dev.js'), ...flags], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const closed = once(child, 'close')
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
    })
    const timesServed = () => said.split('listens on').length - 1
    try {
      await until('it serves', () => timesServed() === 1, { deadlineMs: 30_000 })
      appendFileSync(join(copy.path, 'src/kernel/worker.ts'), "\nprocess.stdout.write('the change is run')\n")
      await until('the change is served', () => timesServed() === 2 && said.includes('the change is run'))
    } finally {
      child.kill('SIGINT')
      assert.deepEqual(await within('it ends', 20_000, closed), [0, null])
    }
    assert.deepEqual(linkNames(), ['lo'])
  },
)
