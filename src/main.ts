#!/usr/bin/env node
import { existsSync, readFileSync } from 'node:fs'
import { banner } from './banner.js'
import { defineCapture } from './cli/capture.js'
import { type Config, parseConfig } from './config.js'
import { type Daemon, startDaemon } from './daemon.js'
import { isRecord } from './lib/json-rpc.js'
import { createLog } from './log.js'

/** Runs one invocation and resolves to the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  const version = packageVersion()
  const invocation = parseConfig(argv, process.env, version, [defineCapture])
  if (invocation.kind === 'serve') return await serve(invocation.config, version)
  if (invocation.kind === 'run') return await invocation.run()
  ;(invocation.exitCode === 0 ? process.stdout : process.stderr).write(invocation.text)
  return invocation.exitCode
}

async function serve(config: Config, version: string): Promise<number> {
  const stopped = new Promise<void>(resolve => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve())
  })
  let daemon: Daemon
  try {
    if (!hasNetAdmin()) throw new Error('network devices are made by root (CAP_NET_ADMIN); start it as root')
    daemon = await startDaemon(config, createLog(config.logLevel), version)
  } catch (error) {
    process.stderr.write(`ovs-bridged cannot start: ${error instanceof Error ? error.message : String(error)}\n`)
    return 1
  }
  process.stdout.write(banner({ ...daemon, version }))
  await stopped
  await daemon[Symbol.asyncDispose]()
  return 0
}

/** Of the package that this file is part of: compiled into dist/, or with the tests into build/src/. */
function packageVersion(): string {
  const file = ['../package.json', '../../package.json'].map(path => new URL(path, import.meta.url)).find(existsSync)
  const manifest: unknown = file === undefined ? undefined : JSON.parse(readFileSync(file, 'utf8'))
  return isRecord(manifest) ? String(manifest['version']) : 'unknown'
}

/** Whether this process has the capability effectively; proc_pid_status(5), capabilities(7). */
function hasNetAdmin(): boolean {
  const capNetAdmin = 12n
  const effective = /^CapEff:\s*([\da-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return ((BigInt(`0x${effective}`) >> capNetAdmin) & 1n) === 1n
}

process.exitCode = await main(process.argv.slice(2))
