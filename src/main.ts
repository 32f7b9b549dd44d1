#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { type Config, parseConfig } from './config.js'
import { type Daemon, startDaemon } from './daemon.js'
import { createLog } from './log.js'

const version = String(JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version)

/** Runs one invocation and resolves to the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  const invocation = parseConfig(argv, process.env, version)
  if (invocation.kind === 'serve') return await serve(invocation.config)
  ;(invocation.exitCode === 0 ? process.stdout : process.stderr).write(invocation.text)
  return invocation.exitCode
}

async function serve(config: Config): Promise<number> {
  const stopped = new Promise<void>(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve())
  })
  let daemon: Daemon
  try {
    daemon = await startDaemon(config, createLog(config.logLevel))
  } catch (error) {
    process.stderr.write(`ovs-bridged cannot start: ${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  }
  process.stdout.write(banner(daemon))
  await stopped
  await daemon[Symbol.asyncDispose]()
  return 0
}

function banner(daemon: Daemon): string {
  return `ovs-bridged ${version}
  listens on    ${daemon.addresses.join(', ')}
  Open vSwitch  ${daemon.ovs}
`
}

process.exitCode = await main(process.argv.slice(2))
