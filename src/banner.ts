/** A daemon that serves, as far as the person who started it cares. */
export interface Serving {
  readonly version: string
  /** `unix:/PATH`, `HOST:PORT` or `systemd:NAME`; at least one. */
  readonly addresses: readonly string[]
  /** Those of them that take no certificate. */
  readonly plaintext: readonly string[]
  /** Which Open vSwitch it manages, in words. */
  readonly ovs: string
  /** undefined: none are served. */
  readonly metricsUrl: string | undefined
}

const service = 'ovs.bridge.v1.BridgeService'

/** Ensure a bridge, create a tap on it, list it. */
const calls = [
  { method: 'EnsureBridge', request: '{}' },
  { method: 'CreateTap', request: '{"vlan":10}' },
  { method: 'ListTaps', request: '{}' },
] as const

/** What a daemon says once it serves: where, on which Open vSwitch, and calls to paste into a shell. */
export function banner({ version, addresses, plaintext, ovs, metricsUrl }: Serving): string {
  // Where systemd listens for us, its unit says.
  const address = plaintext.find(one => !one.startsWith('systemd:'))
  const head = `ovs-bridged ${version}
  listens on    ${addresses.join(', ')}
  Open vSwitch  ${ovs}
  metrics       ${metricsUrl ?? 'off'}
`
  // Where a certificate is needed, whoever has one knows how to show it.
  return address === undefined
    ? head
    : `${head}
Ensure a bridge, create a tap, list it: as root, in another terminal, from a checkout of ovs-bridged
${calls.map(call => `  ${bufCurl(address, call)}`).join('\n')}
or with grpcurl 1.9.2 or newer, from anywhere
${calls.map(call => `  ${grpcurl(address, call)}`).join('\n')}
`
}

interface Call {
  readonly method: string
  readonly request: string
}

function bufCurl(address: string, { method, request }: Call): string {
  const path = socketPath(address)
  const [to, host] = path === undefined ? ['', address] : [`--unix-socket ${quoted(path)} `, 'localhost']
  return `npx buf curl --protocol grpc --http2-prior-knowledge ${to}-d '${request}' ${quoted(`http://${host}/${service}/${method}`)}`
}

function grpcurl(address: string, { method, request }: Call): string {
  // `-unix PATH` fails in 1.9.2 and 1.9.3.
  const path = socketPath(address)
  const to = quoted(path === undefined ? address : `unix://${path}`)
  return `grpcurl -plaintext -d '${request}' ${to} ${service}/${method}`
}

function socketPath(address: string): string | undefined {
  return address.startsWith('unix:') ? address.slice('unix:'.length) : undefined
}

/** As one word of a POSIX shell. */
function quoted(word: string): string {
  return /^[\w./:-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}
