/**
 * Serves what is in src/ with an Open vSwitch of its own, and anew after each change that can be built. What was built
 * last goes on while a change cannot. Types are left to scripts/check. A new thread's file is seen at the next start.
 * As root, once scripts/setup has run; ends with Ctrl-C. Usage: npm run dev -- [FLAG OF serve...]
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { context } from 'esbuild'
import { programIn, root } from './program.js'

const out = path.join(root, 'build', 'dev')
const args = ['--enable-source-maps', path.join(out, 'main.js'), 'serve', '--embedded', ...process.argv.slice(2)]
let daemon
let isEnding = false

const options = programIn(out)
const program = await context({ ...options, plugins: [...options.plugins, { name: 'serve-anew', setup: serveBuilt }] })
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, end)
await program.watch()

/** esbuild begins no other build before the daemon of this one runs. */
function serveBuilt({ onEnd }) {
  onEnd(async ({ errors }) => {
    if (errors.length > 0) return
    await endDaemon()
    if (isEnding) return
    daemon = spawn(process.execPath, args, { stdio: ['ignore', 'inherit', 'inherit'] })
    daemon.once('exit', (code, signal) => {
      if (code !== 0 && !isEnding)
        console.error(`the daemon ended with ${code ?? signal}; the next change starts it again`)
    })
  })
}

/** Resolves once it has ended in order, with its Open vSwitch. */
async function endDaemon() {
  if (daemon === undefined || daemon.exitCode !== null || daemon.signalCode !== null) return
  daemon.kill('SIGTERM')
  await once(daemon, 'exit')
}

async function end() {
  isEnding = true
  await endDaemon()
  await program.dispose()
}
