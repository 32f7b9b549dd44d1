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
  ;(invocation.exitCode === 0 ? process.stdout : process.stderr).write(invocation.text)
  return invocation.exitCode
}

/** Of the package that this file is part of: in dist/, or beside the tests in build/dist/. */
function packageVersion(): string {
  const file = ['../package.json', '../../package.json'].map(path => new URL(path, import.meta.url)).find(existsSync)
  const manifest: unknown = file === undefined ? undefined : JSON.parse(readFileSync(file, 'utf8'))
  return isRecord(manifest) ? String(manifest['version']) : 'unknown'
}

process.exitCode = await main(process.argv.slice(2))
