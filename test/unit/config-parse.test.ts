import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Config, parseConfig } from '../../src/config.js'
import { formatAddress } from '../../src/lib/socket-address.js'
import type { Door } from '../../src/server/door.js'
import { defaultLimits } from '../../src/server/limits.js'

function parse(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Config {
  const result = parseConfig(['serve', ...argv], env, '1.2.3')
  assert(result.kind === 'serve', JSON.stringify(result))
  return result.config
}

function refusal(argv: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const result = parseConfig(argv, env, '1.2.3')
  assert(result.kind === 'say')
  assert.equal(result.exitCode, 2)
  return result.text
}

test("without flags the host's Open vSwitch is served on a unix socket", () => {
  assert.deepEqual(parse([]), {
    ovs: { kind: 'host', endpoint: { kind: 'unix', path: '/var/run/openvswitch/db.sock' }, datapath: 'auto' },
    listen: [{ kind: 'unix', path: '/run/ovs-bridged/ovs-bridged.sock', role: 'admin', mode: 0o660, group: undefined }],
    certificates: undefined,
    limits: {
      connections: defaultLimits.connections,
      calls: defaultLimits.calls,
      streams: defaultLimits.streams,
      callsPerSecond: defaultLimits.callsPerSecond,
      messageBytes: defaultLimits.messageBytes,
    },
    stateDir: '/var/lib/ovs-bridged',
    captureDir: '/var/lib/ovs-bridged/captures',
    defaultBridge: 'ovsbr0',
    tapNameFormat: { prefix: 'tap', suffix: '' },
    bondNameFormat: { prefix: 'bond', suffix: '' },
    instance: 'default',
    logLevel: 'info',
    drainTimeoutMs: 10_000,
    addressTtlMs: 1_800_000,
    metrics: { listen: { kind: 'tcp', host: '127.0.0.1', port: 9477 }, perTap: true },
    captureQuotaBytes: 10 * 2 ** 30,
    maxCaptures: 256,
  })
})

test('--embedded asks for an Open vSwitch of its own', () => {
  assert.deepEqual(parse(['--embedded']).ovs, { kind: 'embedded' })
})

test('every flag is taken', () => {
  const config = parse(
    (
      '--ovsdb unix:/tmp/db.sock --datapath netdev --listen unix:/tmp/a,role=viewer,mode=0600,group=lab --listen [::1]:5 --listen 10.0.0.1:5 --listen systemd:api --state-dir /s --capture-dir /c ' +
      '--capture-quota none --default-bridge b --tap-name-format t%v --bond-name-format b%vx --instance i-1 ' +
      '--log-level debug --drain-timeout 500ms --address-ttl 5m --metrics-listen localhost:0 --no-metrics-per-tap ' +
      '--tls-cert /c --tls-key /k --tls-client-ca /a --insecure-loopback --max-connections 1 --max-calls 2 --max-streams 3 ' +
      '--max-call-rate 4 --max-message 65536 --max-captures 5'
    ).split(' '),
  )
  assert.deepEqual(config, {
    ovs: { kind: 'host', endpoint: { kind: 'unix', path: '/tmp/db.sock' }, datapath: 'netdev' },
    listen: [
      { kind: 'unix', path: '/tmp/a', role: 'viewer', mode: 0o600, group: 'lab' },
      { kind: 'loopback', endpoint: { kind: 'tcp', host: '::1', port: 5 }, role: 'viewer' },
      { kind: 'tls', endpoint: { kind: 'tcp', host: '10.0.0.1', port: 5 }, role: 'admin' },
      { kind: 'inherited', name: 'api', role: 'admin' },
    ],
    certificates: { cert: '/c', key: '/k', clientCa: '/a' },
    limits: { connections: 1, calls: 2, streams: 3, callsPerSecond: 4, messageBytes: 65_536 },
    stateDir: '/s',
    captureDir: '/c',
    defaultBridge: 'b',
    tapNameFormat: { prefix: 't', suffix: '' },
    bondNameFormat: { prefix: 'b', suffix: 'x' },
    instance: 'i-1',
    logLevel: 'debug',
    drainTimeoutMs: 500,
    addressTtlMs: 300_000,
    metrics: { listen: { kind: 'tcp', host: '127.0.0.1', port: 0 }, perTap: false },
    captureQuotaBytes: undefined,
    maxCaptures: 5,
  })
})

test('no metrics are served with --metrics-listen off', () => {
  assert.equal(parse(['--metrics-listen', 'off']).metrics, undefined)
})

test('a variable stands for a flag that is not given', () => {
  const env = { OVS_BRIDGED_DEFAULT_BRIDGE: 'env0', OVS_BRIDGED_EMBEDDED: 'true' }
  assert.equal(parse([], env).defaultBridge, 'env0')
  assert.equal(parse([], env).ovs.kind, 'embedded')
  assert.equal(parse([], { OVS_BRIDGED_NO_METRICS_PER_TAP: '1' }).metrics?.perTap, false)
  assert.equal(parse(['--default-bridge', 'flag0'], env).defaultBridge, 'flag0')
})

test('several addresses stand in their variable with spaces', () => {
  const { listen } = parse([], { OVS_BRIDGED_LISTEN: 'unix:/a,role=viewer  unix:/b', OVS_BRIDGED_LOG_LEVEL: 'info' })
  assert.deepEqual(listen.map(spelled), ['unix:/a role=viewer', 'unix:/b role=admin'])
})

const spelled = (door: Door) => {
  if (door.kind === 'inherited') return `systemd:${door.name} role=${door.role}`
  return `${formatAddress(door.kind === 'unix' ? door : door.endpoint)} role=${door.role}`
}

test('an empty variable counts for nothing', () => {
  assert.equal(parse([], { OVS_BRIDGED_LOG_LEVEL: '' }).logLevel, 'info')
})

test('nor does one with nothing but space in it: there is always a door', () => {
  assert.deepEqual(parse([], { OVS_BRIDGED_LISTEN: ' ' }).listen, parse([]).listen)
})

for (const [spelling, taken] of [
  ['unix:/run/a.sock', 'unix:/run/a.sock role=admin'],
  ['unix:///run//a.sock,role=operator', 'unix:/run/a.sock role=operator'],
  ['localhost:1', '127.0.0.1:1 role=viewer'],
  ['[::1]:65535,role=admin', '[::1]:65535 role=admin'],
  ['systemd:api,role=capture', 'systemd:api role=capture'],
] as const) {
  test(`--listen ${spelling} is ${taken}`, () => {
    assert.deepEqual(parse(['--listen', spelling, '--insecure-loopback']).listen.map(spelled), [taken])
  })
}

for (const [argv, sentence] of [
  [
    '--listen 0.0.0.0:1 --insecure-loopback',
    '--listen "0.0.0.0:1" needs --tls-cert, --tls-key and --tls-client-ca: TCP is served with mutual TLS',
  ],
  [
    '--listen [::1]:1',
    '--listen "[::1]:1" needs --tls-cert, --tls-key and --tls-client-ca, or --insecure-loopback: TCP is served with mutual TLS',
  ],
  ['--tls-cert /a', '--tls-cert, --tls-key and --tls-client-ca go together; --tls-key is missing'],
  ['--listen unix:/a,mode=1777', '--listen "unix:/a,mode=1777" has a mode that is not three octal digits'],
  ['--listen unix:/a,group=a:b', '--listen "unix:/a,group=a:b" has a group that is no name of one'],
  [
    '--listen unix:/a,role=root',
    '--listen "unix:/a,role=root" has a role that is none of viewer, capture, operator, admin',
  ],
  ['--listen unix:/a,role=admin,role=viewer', '--listen "unix:/a,role=admin,role=viewer" says role twice'],
  ['--listen unix:/a,admin', '--listen "unix:/a,admin" has an option that is none of role=, mode= and group='],
  [
    '--listen 127.0.0.1:1,mode=600',
    '--listen "127.0.0.1:1,mode=600" has a mode or a group, which only a socket of unix:/PATH has',
  ],
  ['--listen systemd:', '--listen "systemd:" lacks the FileDescriptorName of a socket unit'],
  ['--max-calls 0', '--max-calls "0" is not a whole number from 1 to 9999999'],
  ['--max-message 1', '--max-message "1" is not from 65536 to 1073741824'],
  ['--listen unix:run/a', '--listen "unix:run/a" is not unix: and an absolute path'],
  ['--listen example.org:1', '--listen "example.org:1" has a host that is not an IP address'],
  ['--listen 127.0.0.1:65536', '--listen "127.0.0.1:65536" is none of unix:/PATH, HOST:PORT and systemd:NAME'],
  ['--listen 50051', '--listen "50051" is none of unix:/PATH, HOST:PORT and systemd:NAME'],
  ['--ovsdb tcp:127.0.0.1:6640', '--ovsdb "tcp:127.0.0.1:6640" is not unix: and an absolute path'],
  ['--datapath kernel', '--datapath "kernel" is none of auto, system, netdev'],
  ['--tap-name-format tap', '--tap-name-format "tap" must hold %v exactly once'],
  ['--tap-name-format %v%v', '--tap-name-format "%v%v" must hold %v exactly once'],
  ['--instance A', '--instance "A" is not 1 to 32 of a-z, 0-9 and -'],
  ['--capture-quota 10', '--capture-quota "10" is neither none nor a whole number with a unit: 500MiB, 10GiB'],
  ['--state-dir var', '--state-dir "var" is not an absolute path'],
  ['--log-level loud', '--log-level "loud" is none of fatal, error, warn, info, debug, trace, silent'],
  ['--drain-timeout 10', '--drain-timeout "10" is not a whole number with a unit: 500ms, 10s, 2m'],
  ['--drain-timeout 61m', '--drain-timeout "61m" is longer than 60 minutes'],
  ['--address-ttl 500ms', '--address-ttl "500ms" is shorter than 1 s'],
  ['--address-ttl 1441m', '--address-ttl "1441m" is longer than 1440 minutes'],
  [
    '--embedded --ovsdb unix:/a',
    '--embedded and --ovsdb exclude each other: an embedded Open vSwitch has its own database',
  ],
  [
    '--embedded --datapath system',
    "--embedded and --datapath system exclude each other: the kernel's datapath is the host's",
  ],
  ['--default-bridge 0123456789abcdef', '--default-bridge "0123456789abcdef" is 16 bytes long, the limit is 15'],
  ['--embeded', "unknown option '--embeded'\n(Did you mean --embedded?)"],
  ['--metrics-listen 9477', '--metrics-listen "9477" is not HOST:PORT'],
  ['--metrics-listen unix:/a', '--metrics-listen "unix:/a" is not HOST:PORT'],
  [
    '--metrics-listen 192.0.2.1:9477',
    '--metrics-listen "192.0.2.1:9477" is not on the loopback, and everywhere else plaintext would let anybody in',
  ],
  ['--listen', "option '--listen <address>' argument missing"],
] as const) {
  test(`${argv} is refused in a sentence`, () => {
    assert.equal(refusal(['serve', ...argv.split(' ')]), `${sentence}\n`)
  })
}

test('a format whose names would be too long is refused', () => {
  assert.match(
    refusal(['serve', '--tap-name-format', 'elevenchars%v']),
    /^--tap-name-format "elevenchars%v" gives names/,
  )
})

test('a bad variable is named as such', () => {
  assert.equal(
    refusal(['serve'], { OVS_BRIDGED_EMBEDDED: 'maybe' }),
    'OVS_BRIDGED_EMBEDDED "maybe" is neither true nor false\n',
  )
})

test('an unknown command is refused', () => {
  assert.equal(refusal(['swerve']), "unknown command 'swerve'\n(Did you mean serve?)\n")
})

test('no command at all shows the help and fails', () => {
  assert.match(refusal([]), /Usage: ovs-bridged/)
})

test('--version prints the version', () => {
  assert.deepEqual(parseConfig(['--version'], {}, '1.2.3'), { kind: 'say', text: '1.2.3\n', exitCode: 0 })
})

test('the help of serve tells defaults and variables', () => {
  const help = parseConfig(['serve', '--help'], {}, '1.2.3')
  assert(help.kind === 'say' && help.exitCode === 0)
  assert.match(help.text.replace(/\s+/g, ' '), /--instance <name> .*\(default: default, env: OVS_BRIDGED_INSTANCE\)/)
})
