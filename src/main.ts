#!/usr/bin/env node
import { existsSync, readFileSync } from 'node:fs'
import { defineCapture } from './cli/capture.js'
import { defineCheck } from './cli/check.js'
import { defineDrift } from './cli/drift.js'
import { defineList } from './cli/list.js'
import { defineTop } from './cli/top.js'
import { defineWatch } from './cli/watch.js'
import { parseConfig } from './config.js'
import { isRecord } from './lib/json-rpc.js'
import { codeOf } from './lib/thrown.js'

const commands = [defineCheck, defineList, defineTop, defineWatch, defineDrift, defineCapture]

/** Runs one invocation and resolves to the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  const version = packageVersion()
  const invocation = parseConfig(argv, process.env, version, commands)
  if (invocation.kind === 'serve') {
    // All that the daemon is made of takes longer to load than the other commands take in all.
    const { serve } = await import('./serve.js')
    return await serve(invocation.config, version)
  }
  if (invocation.kind === 'run') return await invocation.run()
  return await say(invocation)
}

/** Who reads no further has what is wanted. */
function say({ text, exitCode }: { readonly text: string; readonly exitCode: number }): Promise<number> {
  const out = exitCode === 0 ? process.stdout : process.stderr
  return new Promise(resolve => {
    out.once('error', error => {
      if (codeOf(error) === 'EPIPE') return resolve(exitCode)
      if (out === process.stdout) process.stderr.write('ovs-bridged: standard output cannot be written\n')
      resolve(1)
    })
    out.write(text, error => {
      if (!error) resolve(exitCode)
    })
  })
}

/** Of the package that this file is part of: in dist/, or beside the tests in build/dist/. */
function packageVersion(): string {
  const file = ['../package.json', '../../package.json'].map(path => new URL(path, import.meta.url)).find(existsSync)
  const manifest: unknown = file === undefined ? undefined : JSON.parse(readFileSync(file, 'utf8'))
  return isRecord(manifest) ? String(manifest['version']) : 'unknown'
}

// Node.js would open its debugger, through which whoever is on this host becomes this process.
process.on('SIGUSR1', () => {})
process.exitCode = await main(process.argv.slice(2))
