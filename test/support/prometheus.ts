import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { checkout } from './readme.js'
import { until, within } from './until.js'

/** A Prometheus server that scrapes one target every second and follows deploy/prometheus-rules.yml. */
export interface Prometheus extends AsyncDisposable {
  /** The series that an instant query gives. */
  query(expression: string): Promise<readonly Series[]>
  /** Its alerting rules. */
  alerts(): Promise<readonly Alert[]>
}

export interface Series {
  readonly metric: Readonly<Record<string, string>>
  /** Time in seconds, and the value as text. */
  readonly value: readonly [number, string]
}

export interface Alert {
  readonly name: string
  readonly query: string
  /** Whether its condition holds, be it for a moment only. */
  readonly holds: boolean
  /** What went wrong when it was evaluated. */
  readonly lastError: string
}

/** Nobody else is in a test's namespace. */
const address = '127.0.0.1:9090'

/** Starts it in the namespace the test is in. Disposing kills it. */
export async function startPrometheus(target: string): Promise<Prometheus> {
  const directory = mkdtempSync(join(tmpdir(), 'prometheus-'))
  const config = join(directory, 'prometheus.yml')
  writeFileSync(config, configFor(target))
  const flags = [`--config.file=${config}`, `--storage.tsdb.path=${directory}/data`, `--web.listen-address=${address}`]
  const child = spawn('prometheus', [...flags, '--log.level=warn'], { stdio: ['ignore', 'ignore', 'pipe'] })
  const said = collect(child)
  const ended = new Promise<void>(resolve => child.once('close', () => resolve()))
  const dispose = async () => {
    child.kill('SIGKILL')
    await ended
    rmSync(directory, { recursive: true, force: true })
  }
  try {
    await until('Prometheus is ready', async () => (await fetch(`http://${address}/-/ready`)).ok, {
      deadlineMs: 30_000,
    })
  } catch (error) {
    await dispose()
    throw new Error(`Prometheus did not start: ${said()}`, { cause: error })
  }
  return {
    query: async expression => (await ask<{ result: Series[] }>('query', { query: expression })).result,
    alerts: async () =>
      (await ask<Rules>('rules', { type: 'alert' })).groups.flatMap(({ rules }) =>
        rules.map(rule => ({ ...rule, holds: rule.state !== 'inactive', lastError: rule.lastError ?? '' })),
      ),
    [Symbol.asyncDispose]: dispose,
  }
}

interface Rules {
  readonly groups: readonly {
    readonly rules: readonly { name: string; query: string; state: string; lastError?: string }[]
  }[]
}

function configFor(target: string): string {
  return `
global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }
rule_files: [${JSON.stringify(fileURLToPath(new URL('deploy/prometheus-rules.yml', checkout)))}]
scrape_configs:
  - job_name: ovs-bridged
    static_configs: [{ targets: ['${target}'] }]
`
}

/** Its HTTP API, https://prometheus.io/docs/prometheus/latest/querying/api/. */
async function ask<T>(what: string, parameters: Readonly<Record<string, string>>): Promise<T> {
  const url = `http://${address}/api/v1/${what}?${new URLSearchParams(parameters).toString()}`
  const response = await within(`an answer to ${url}`, 10_000, fetch(url))
  const answer = (await response.json()) as { status: string; error?: string; data: T }
  if (answer.status !== 'success') throw new Error(`${url}: ${answer.error}`)
  return answer.data
}

function collect(child: ChildProcess): () => string {
  let text = ''
  child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
  })
  return () => text
}
