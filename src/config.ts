import { Command, CommanderError, Option } from 'commander'
import { type BridgeName, type NameFormat, parseBridgeName, parseNameFormat } from './bridge/names.js'
import {
  durationMs,
  type InstanceName,
  oneOf,
  parseAbsolutePath,
  parseCount,
  parseInstanceName,
  parseMessageBytes,
  parseMetricsListen,
  parseQuota,
  parseSwitch,
} from './flag-values.js'
import { type Flag, type FlagKey, flags, variableOf } from './flags.js'
import type { Parsed } from './lib/parsed.js'
import { type LoopbackAddress, parseUnixAddress, type UnixAddress } from './lib/socket-address.js'
import { type LogLevel, logLevels } from './log/index.js'
import type { CertificateFiles } from './server/certificates.js'
import { type Door, parseDoor } from './server/door.js'
import type { Limits } from './server/limits.js'

/** Which Open vSwitch the service manages. */
export type OvsConfig =
  /** Its own: ovsdb-server and ovs-vswitchd in `stateDir`, userspace datapath. */
  | { readonly kind: 'embedded' }
  /** One that runs already. */
  | { readonly kind: 'host'; readonly endpoint: UnixAddress; readonly datapath: Datapath }

/** Datapath type of new bridges; `auto`: the kernel's where it is there. */
export type Datapath = 'auto' | 'system' | 'netdev'

export interface Config {
  readonly ovs: OvsConfig
  /** Never empty. */
  readonly listen: readonly Door[]
  /** For doors with TLS. */
  readonly certificates: CertificateFiles | undefined
  readonly limits: Pick<Limits, 'connections' | 'calls' | 'streams' | 'callsPerSecond' | 'messageBytes'>
  /** Absolute. */
  readonly stateDir: string
  /** Absolute. The only place where callers may have files written. */
  readonly captureDir: string
  readonly defaultBridge: BridgeName
  readonly tapNameFormat: NameFormat
  readonly bondNameFormat: NameFormat
  readonly instance: InstanceName
  readonly logLevel: LogLevel
  readonly drainTimeoutMs: number
  readonly addressTtlMs: number
  /** Of all files in `captureDir`; undefined: no limit. */
  readonly captureQuotaBytes: number | undefined
  /** Taps and bridges at the same time. */
  readonly maxCaptures: number
  /** undefined: no metrics are served. */
  readonly metrics: MetricsConfig | undefined
}

export interface MetricsConfig {
  readonly listen: LoopbackAddress
  /** Whether the counters of each tap are among them. */
  readonly perTap: boolean
}

/** What the command line asks for. */
export type Invocation =
  | { readonly kind: 'serve'; readonly config: Config }
  /** Another command; `run` resolves to its exit code. */
  | { readonly kind: 'run'; readonly run: () => Promise<number> }
  /** Nothing to run: help, the version, or the one sentence about what is wrong. */
  | { readonly kind: 'say'; readonly text: string; readonly exitCode: 0 | 2 }

/** Adds a command beside `serve`; its action says what is to be run. */
export type DefineCommand = (program: Command, choose: (run: () => Promise<number>) => void) => void

const serveExitHelp = `
Exit codes:
  0 it was told to stop
  1 it cannot start, or not go on
  2 the command line is wrong`

/** A flag with what was given for it: each value, and where it stood. */
interface Given {
  readonly source: string
  readonly values: readonly string[]
  readonly explicit: boolean
}

/** A bad value; the message is the one sentence. */
class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/**
 * Reads the command line (without node and script) and the environment: a flag comes before its variable
 * `OVS_BRIDGED_<FLAG>` (a space between several addresses), that before the default. Looks at neither disk nor network.
 */
export function parseConfig(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
  version: string,
  commands: readonly DefineCommand[] = [],
): Invocation {
  let output = ''
  let run: (() => Promise<number>) | undefined
  let options: Readonly<Record<string, unknown>> | undefined
  const program = createProgram(version, text => {
    output += text
  })
  const serve = program.command('serve').description('serve the gRPC API until told to stop')
  for (const flag of Object.values<Flag>(flags)) serve.addOption(optionOf(flag))
  serve.addHelpText('after', serveExitHelp)
  serve.action((given: Readonly<Record<string, unknown>>) => {
    options = given
  })
  for (const define of commands) {
    define(program, chosen => {
      run = chosen
    })
  }
  try {
    program.parse(argv, { from: 'user' })
    if (run !== undefined) return { kind: 'run', run }
    return { kind: 'serve', config: configOf(options ?? {}, env) }
  } catch (error) {
    if (error instanceof ConfigError) return { kind: 'say', text: `${error.message}\n`, exitCode: 2 }
    if (error instanceof CommanderError) return { kind: 'say', text: output, exitCode: error.exitCode === 0 ? 0 : 2 }
    throw error
  }
}

function createProgram(version: string, write: (text: string) => void): Command {
  return new Command('ovs-bridged')
    .description('gRPC service that manages the Open vSwitch bridges and taps of a Linux host')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: write,
      writeErr: write,
      outputError: (text, out) => out(text.replace(/^error: /, '')),
    })
}

function optionOf(flag: Flag): Option {
  const fallback = flag.fallback === '' ? '' : `default: ${flag.fallback}, `
  const told = `${flag.description} (${fallback}env: ${variableOf(flag)})`
  if (flag.value === undefined) return new Option(`--${flag.name}`, told)
  const option = new Option(`--${flag.name} <${flag.value}>`, told)
  if (flag.repeatable) option.argParser((text: string, before: string[] | undefined) => [...(before ?? []), text])
  return option
}

function configOf(
  options: Readonly<Record<string, unknown>>,
  env: Readonly<Record<string, string | undefined>>,
): Config {
  const given = (key: FlagKey) => givenFor(flags[key], optionFor(key, options), env)
  const one = <T>(key: FlagKey, parse: (text: string) => Parsed<T>): T => take(given(key), parse)
  const certificates = certificatesOf(given('tlsCert'), given('tlsKey'), given('tlsClientCa'))
  const insecureLoopback = one('insecureLoopback', parseSwitch)
  return {
    ovs: ovsOf(given('embedded'), given('ovsdb'), given('datapath')),
    listen: given('listen').values.map(value =>
      take({ ...given('listen'), values: [value] }, text =>
        parseDoor(text, { insecureLoopback, tls: certificates !== undefined }),
      ),
    ),
    certificates,
    limits: {
      connections: one('maxConnections', parseCount),
      calls: one('maxCalls', parseCount),
      streams: one('maxStreams', parseCount),
      callsPerSecond: one('maxCallRate', parseCount),
      messageBytes: one('maxMessage', parseMessageBytes),
    },
    stateDir: one('stateDir', parseAbsolutePath),
    captureDir: given('captureDir').explicit
      ? one('captureDir', parseAbsolutePath)
      : `${one('stateDir', parseAbsolutePath)}/captures`,
    defaultBridge: one('defaultBridge', parseBridgeName),
    tapNameFormat: one('tapNameFormat', parseNameFormat),
    bondNameFormat: one('bondNameFormat', parseNameFormat),
    instance: one('instance', parseInstanceName),
    logLevel: one('logLevel', oneOf(logLevels)),
    drainTimeoutMs: one('drainTimeout', durationMs(0, 3_600_000)),
    addressTtlMs: one('addressTtl', durationMs(1_000, 86_400_000)),
    metrics: metricsOf(one('metricsListen', parseMetricsListen), one('noMetricsPerTap', parseSwitch)),
    captureQuotaBytes: one('captureQuota', parseQuota),
    maxCaptures: one('maxCaptures', parseCount),
  }
}

/** What Commander has of a flag. A flag --no-x is for it the contrary of an option --x that is true until then. */
function optionFor(key: FlagKey, options: Readonly<Record<string, unknown>>): unknown {
  if (key !== 'noMetricsPerTap') return options[key]
  return options['metricsPerTap'] === false ? true : undefined
}

function givenFor(flag: Flag, option: unknown, env: Readonly<Record<string, string | undefined>>): Given {
  if (option !== undefined) {
    const values = [option].flat().map(value => (typeof value === 'string' ? value : JSON.stringify(value)))
    return { source: `--${flag.name}`, values, explicit: true }
  }
  // An empty variable is how a unit file or a shell unsets one.
  const value = env[variableOf(flag)]
  if (value === undefined || value.trim() === '')
    return { source: `--${flag.name}`, values: [flag.fallback], explicit: false }
  return {
    source: variableOf(flag),
    values: flag.repeatable ? value.split(/\s+/).filter(Boolean) : [value],
    explicit: true,
  }
}

function take<T>(given: Given, parse: (text: string) => Parsed<T>): T {
  const [value = ''] = given.values
  const result = parse(value)
  if (result.ok) return result.value
  throw new ConfigError(`${given.source} ${JSON.stringify(value)} ${result.reason}`)
}

function ovsOf(embedded: Given, ovsdb: Given, datapath: Given): OvsConfig {
  const type = take(datapath, oneOf(['auto', 'system', 'netdev']))
  if (!take(embedded, parseSwitch)) return { kind: 'host', endpoint: take(ovsdb, parseUnixAddress), datapath: type }
  if (ovsdb.explicit) {
    throw new ConfigError(
      `${embedded.source} and ${ovsdb.source} exclude each other: an embedded Open vSwitch has its own database`,
    )
  }
  if (type === 'system') {
    throw new ConfigError(
      `${embedded.source} and ${datapath.source} system exclude each other: the kernel's datapath is the host's`,
    )
  }
  return { kind: 'embedded' }
}

function certificatesOf(cert: Given, key: Given, clientCa: Given): CertificateFiles | undefined {
  const all = [cert, key, clientCa]
  if (all.every(({ explicit }) => !explicit)) return undefined
  const missing = all.find(({ explicit }) => !explicit)
  if (missing !== undefined)
    throw new ConfigError(`--tls-cert, --tls-key and --tls-client-ca go together; ${missing.source} is missing`)
  return {
    cert: take(cert, parseAbsolutePath),
    key: take(key, parseAbsolutePath),
    clientCa: take(clientCa, parseAbsolutePath),
  }
}

function metricsOf(listen: LoopbackAddress | 'off', leaveOutTaps: boolean): MetricsConfig | undefined {
  return listen === 'off' ? undefined : { listen, perTap: !leaveOutTaps }
}
