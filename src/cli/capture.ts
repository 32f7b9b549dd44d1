import { once } from 'node:events'
import { createWriteStream } from 'node:fs'
import type { Writable } from 'node:stream'
import { credentials, type ServiceError, status } from '@grpc/grpc-js'
import { type Command, InvalidArgumentError } from 'commander'
import type { DefineCommand } from '../config.js'
import type { ListBridgesResponse } from '../gen/ovs/bridge/v1/bridge.js'
import { BridgeServiceClient } from '../gen/ovs/bridge/v1/service.js'
import type { ListTapsResponse } from '../gen/ovs/bridge/v1/tap.js'
import {
  formatAddress,
  type LoopbackAddress,
  parseLoopbackAddress,
  parseUnixAddress,
  type UnixAddress,
} from '../lib/socket-address.js'

/** Where the service is reached without a certificate. */
type ServerAddress = UnixAddress | LoopbackAddress

/** What the command line asks for. */
interface Options {
  readonly server?: ServerAddress
  readonly tap?: readonly string[]
  readonly bridge?: string
  readonly filter?: string
  readonly snapLen?: number
  readonly count?: number
  readonly list?: true
  readonly write?: string
}

const defaultServer = 'unix:/run/ovs-bridged/ovs-bridged.sock'

/** `ovs-bridged capture`: packets of a running service, for Wireshark and its like. */
export const defineCapture: DefineCommand = (program, choose) => {
  const command: Command = program
    .command('capture')
    .description('write packets of taps or a bridge as pcapng, as they come')
    .option('--tap <name>', 'a tap; may be repeated', (name: string, before: readonly string[] | undefined) => [
      ...(before ?? []),
      name,
    ])
    .option('--bridge <name>', 'each frame that a bridge forwards, once, with its VLAN tag')
    .option('--filter <expression>', 'pcap-filter(7); default: all packets')
    .option('--snap-len <bytes>', 'kept of each packet (default: 1600)', parseCount)
    .option('-c, --count <packets>', 'end after so many', parseCount)
    .option('-w, --write <file>', 'a file or a named pipe; -: standard output')
    .option('--list', 'list what can be captured, and end')
    .option('--server <address>', `of the service (default: ${defaultServer})`, parseServer)
  command.action((options: Options) => {
    const { server = parseServer(defaultServer), write } = options
    const address = formatAddress(server)
    if (options.list) choose(() => list(address))
    else if (write === undefined) command.error("required option '-w, --write <file>' not specified")
    else choose(() => capture(address, write, options))
  })
}

function parseCount(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('It is no whole number.')
  return Number(text)
}

function parseServer(text: string): ServerAddress {
  const address = text.startsWith('unix:')
    ? parseUnixAddress(text)
    : parseLoopbackAddress(text, 'is neither unix:/PATH nor HOST:PORT')
  if (!address.ok) throw new InvalidArgumentError(`It ${address.reason}.`)
  return address.value
}

/** Until the stream ends, the reader of what is written leaves, or a signal says so. */
async function capture(address: string, write: string, options: Options): Promise<number> {
  if (write === '-' && process.stdout.isTTY) return failed('standard output is a terminal: | tcpdump -r - or -w FILE')
  const client = new BridgeServiceClient(address, credentials.createInsecure())
  const { tap = [], bridge = '', filter = '', snapLen = 0, count = 0 } = options
  const request = { taps: [...tap], bridge, filter, snapLen, maxPackets: BigInt(count) }
  const call = client.streamCapture(request)
  const leave = () => call.cancel()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, leave)
  const out: Writable = write === '-' ? process.stdout : createWriteStream(write)
  let writeError: NodeJS.ErrnoException | undefined
  out.once('error', error => {
    writeError = error
    leave()
  })
  try {
    for await (const { data } of call) if (!out.write(data)) await drained(out)
    return 0
  } catch (error) {
    if (writeError !== undefined) return writeError.code === 'EPIPE' ? 0 : failed(`${write}: ${writeError.message}`)
    if (!isServiceError(error)) throw error
    return error.code === status.CANCELLED ? 0 : failed(error.details)
  } finally {
    client.close()
    if (writeError === undefined) await flushed(out)
  }
}

/** A stream that has failed never drains. */
async function drained(out: Writable): Promise<void> {
  if (!out.errored) await Promise.race([once(out, 'drain'), once(out, 'close')])
}

function flushed(out: Writable): Promise<void> {
  return new Promise(resolve => {
    if (out === process.stdout) out.write('', () => resolve())
    else out.end(() => resolve())
  })
}

/** One line each: `tap` or `bridge`, the name, and what it is, with tabs in between. */
async function list(address: string): Promise<number> {
  const client = new BridgeServiceClient(address, credentials.createInsecure())
  try {
    const bridges = await allPages(async pageToken => {
      const page = await ask<ListBridgesResponse>(done => client.listBridges({ pageSize: 0, pageToken }, done))
      return { items: page.bridges, nextPageToken: page.nextPageToken }
    })
    const taps = await allPages(async pageToken => {
      const request = { bridge: '', kind: 0, includeDefunct: false, pageSize: 0, pageToken }
      const page = await ask<ListTapsResponse>(done => client.listTaps(request, done))
      return { items: page.taps, nextPageToken: page.nextPageToken }
    })
    for (const { name } of bridges) process.stdout.write(`bridge\t${name}\teach frame once\n`)
    for (const { name, bridge, vlan } of taps) process.stdout.write(`tap\t${name}\t${bridge}, VLAN ${vlan}\n`)
    return 0
  } catch (error) {
    if (!isServiceError(error)) throw error
    return failed(error.details)
  } finally {
    client.close()
  }
}

function ask<R>(call: (done: (error: ServiceError | null, response: R) => void) => unknown): Promise<R> {
  return new Promise((resolve, reject) => {
    call((error, response) => {
      if (error === null) resolve(response)
      else reject(error)
    })
  })
}

async function allPages<T>(
  pageAt: (pageToken: string) => Promise<{ readonly items: readonly T[]; readonly nextPageToken: string }>,
): Promise<T[]> {
  const all: T[] = []
  let pageToken = ''
  do {
    const { items, nextPageToken } = await pageAt(pageToken)
    all.push(...items)
    pageToken = nextPageToken
  } while (pageToken !== '')
  return all
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'details' in error
}

function failed(why: string): number {
  process.stderr.write(`ovs-bridged capture: ${why}\n`)
  return 1
}
