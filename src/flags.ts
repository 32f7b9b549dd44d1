import { logLevels } from './log/index.js'
import { defaultLimits } from './server/limits.js'

export interface Flag {
  readonly name: string
  /** Metavariable; none for a switch. */
  readonly value?: string
  readonly description: string
  readonly fallback: string
  readonly repeatable?: true
}

/** What `serve` takes; help prints them in this order. */
export const flags = {
  embedded: {
    name: 'embedded',
    description: 'run an Open vSwitch of its own, touching nothing of the host',
    fallback: 'false',
  },
  ovsdb: {
    name: 'ovsdb',
    value: 'address',
    description: "socket of the host's ovsdb-server",
    fallback: 'unix:/var/run/openvswitch/db.sock',
  },
  datapath: {
    name: 'datapath',
    value: 'type',
    description: 'of new bridges: auto, system or netdev',
    fallback: 'auto',
  },
  listen: {
    name: 'listen',
    value: 'address',
    description: 'unix:/PATH, HOST:PORT or systemd:NAME, then ,role= ,mode= ,group=; may be repeated',
    fallback: 'unix:/run/ovs-bridged/ovs-bridged.sock',
    repeatable: true,
  },
  tlsCert: { name: 'tls-cert', value: 'path', description: 'certificate that HOST:PORT is served with', fallback: '' },
  tlsKey: { name: 'tls-key', value: 'path', description: 'its key', fallback: '' },
  tlsClientCa: {
    name: 'tls-client-ca',
    value: 'path',
    description: 'authorities of the client certificates that are believed',
    fallback: '',
  },
  insecureLoopback: {
    name: 'insecure-loopback',
    description: 'serve loopback addresses in plaintext, to all who are on this host',
    fallback: 'false',
  },
  stateDir: { name: 'state-dir', value: 'path', description: 'where files are kept', fallback: '/var/lib/ovs-bridged' },
  captureDir: {
    name: 'capture-dir',
    value: 'path',
    description: 'where callers may have files written',
    fallback: '<state-dir>/captures',
  },
  defaultBridge: {
    name: 'default-bridge',
    value: 'name',
    description: 'bridge of calls that name none',
    fallback: 'ovsbr0',
  },
  tapNameFormat: {
    name: 'tap-name-format',
    value: 'format',
    description: 'generated tap names, with one %v',
    fallback: 'tap%v',
  },
  bondNameFormat: {
    name: 'bond-name-format',
    value: 'format',
    description: 'generated bond names, with one %v',
    fallback: 'bond%v',
  },
  instance: {
    name: 'instance',
    value: 'name',
    description: 'tells several services on one host apart',
    fallback: 'default',
  },
  logLevel: { name: 'log-level', value: 'level', description: logLevels.join(', '), fallback: 'info' },
  drainTimeout: {
    name: 'drain-timeout',
    value: 'duration',
    description: 'for running calls when the service stops: 500ms, 10s, 2m',
    fallback: '10s',
  },
  addressTtl: {
    name: 'address-ttl',
    value: 'duration',
    description: 'an address is forgotten when it was not seen for so long: 1s to 1440m',
    fallback: '30m',
  },
  metricsListen: {
    name: 'metrics-listen',
    value: 'address',
    description: 'HOST:PORT on the loopback where Prometheus finds /metrics, or off',
    fallback: '127.0.0.1:9477',
  },
  noMetricsPerTap: {
    name: 'no-metrics-per-tap',
    description: 'leave the counters of each tap out of the metrics',
    fallback: 'false',
  },
  captureQuota: {
    name: 'capture-quota',
    value: 'size',
    description: 'of all files in --capture-dir: 500MiB, 10GiB, or none',
    fallback: '10GiB',
  },
  maxCaptures: {
    name: 'max-captures',
    value: 'number',
    description: 'taps and bridges captured at the same time; each takes 4 MiB of the kernel',
    fallback: '256',
  },
  maxConnections: {
    name: 'max-connections',
    value: 'number',
    description: 'connections at the same time',
    fallback: String(defaultLimits.connections),
  },
  maxCalls: {
    name: 'max-calls',
    value: 'number',
    description: 'unary calls at the same time',
    fallback: String(defaultLimits.calls),
  },
  maxStreams: {
    name: 'max-streams',
    value: 'number',
    description: 'streams at the same time',
    fallback: String(defaultLimits.streams),
  },
  maxCallRate: {
    name: 'max-call-rate',
    value: 'number',
    description: 'new calls a second on one connection',
    fallback: String(defaultLimits.callsPerSecond),
  },
  maxMessage: {
    name: 'max-message',
    value: 'bytes',
    description: 'size of one request: others wait while it is decoded',
    fallback: String(defaultLimits.messageBytes),
  },
} satisfies Record<string, Flag>

export type FlagKey = keyof typeof flags

/** The variable that stands for a flag that is not given. */
export function variableOf(flag: Flag): string {
  return `OVS_BRIDGED_${flag.name.toUpperCase().replaceAll('-', '_')}`
}
