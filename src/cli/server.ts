import { readFileSync } from 'node:fs'
import { type ChannelCredentials, credentials } from '@grpc/grpc-js'
import { type Command, InvalidArgumentError, Option } from 'commander'
import {
  formatAddress,
  isLoopback,
  parseTcpAddress,
  parseUnixAddress,
  type TcpAddress,
  type UnixAddress,
} from '../lib/socket-address.js'

/** Where a service is; `name`: a host of DNS, with its port. */
type ServerAddress = UnixAddress | TcpAddress | { readonly kind: 'name'; readonly hostAndPort: string }

/** Where the service is and how a command shows who it is: all three files of TLS are there, or none. */
export interface ServerOptions {
  /** Undefined: where it listens if it was not told otherwise. */
  readonly server?: ServerAddress
  /** Paths of PEM files. */
  readonly tlsCa?: string
  readonly tlsCert?: string
  readonly tlsKey?: string
}

const defaultServer = 'unix:/run/ovs-bridged/ovs-bridged.sock'

/** Gives a command that asks a running service the options of {@link ServerOptions}. */
export function addServerOptions(command: Command): Command {
  return command
    .addOption(new Option('--server <address>', `of the service (default: ${defaultServer})`).argParser(parseServer))
    .option('--tls-ca <path>', 'authorities that vouch for the service')
    .option('--tls-cert <path>', 'certificate that is shown to it')
    .option('--tls-key <path>', 'its key')
    .hook('preAction', () => {
      const problem = contradiction(command.opts<ServerOptions>())
      if (problem !== undefined) command.error(problem)
    })
}

function parseServer(text: string): ServerAddress {
  const address = text.startsWith('unix:')
    ? parseUnixAddress(text)
    : parseTcpAddress(text, 'is neither unix:/PATH nor HOST:PORT')
  if (address.ok) return address.value
  // RFC 1123 §2.1; what has no letter would be an IP address.
  if (/^(?=.*[a-z])[a-z\d-]+(?:\.[a-z\d-]+)*:\d{1,5}$/i.test(text)) return { kind: 'name', hostAndPort: text }
  throw new InvalidArgumentError(`It ${address.reason}.`)
}

function contradiction({ server, tlsCa, tlsCert, tlsKey }: ServerOptions): string | undefined {
  const files = [tlsCa, tlsCert, tlsKey].filter(path => path !== undefined).length
  const isTcp = server !== undefined && server.kind !== 'unix'
  if (files > 0 && files < 3) return '--tls-ca, --tls-cert and --tls-key go together'
  if (files > 0 && !isTcp) return '--tls-ca, --tls-cert and --tls-key are for a --server of HOST:PORT'
  const isSafe = server?.kind === 'tcp' && isLoopback(server.host)
  if (files === 0 && isTcp && !isSafe)
    return 'a --server that is not on the loopback needs --tls-ca, --tls-cert and --tls-key'
  return undefined
}

/** As grpc-js takes them. Throws when the files of TLS cannot be read or do not belong together. */
export function channelTo({ server, tlsCa, tlsCert, tlsKey }: ServerOptions): [string, ChannelCredentials] {
  const isTls = tlsCa !== undefined && tlsCert !== undefined && tlsKey !== undefined
  // grpc-js names the server to Node.js by its IP address too, which is told off on standard error (DEP0123).
  if (isTls) process.noDeprecation = true
  const shown = isTls
    ? credentials.createSsl(readFileSync(tlsCa), readFileSync(tlsKey), readFileSync(tlsCert))
    : credentials.createInsecure()
  if (server === undefined) return [defaultServer, shown]
  return [server.kind === 'name' ? `dns:${server.hostAndPort}` : formatAddress(server), shown]
}
