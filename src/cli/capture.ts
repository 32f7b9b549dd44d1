import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { status } from '@grpc/grpc-js'
import { type Command, InvalidArgumentError } from 'commander'
import type { DefineCommand } from '../config.js'
import type { BridgeServiceClient } from '../gen/ovs/bridge/v1/service.js'
import { abortScope, cancelled } from '../lib/abort.js'
import { inventoryOf } from './list.js'
import { openOutput } from './output.js'
import { addServerOptions, type ServerOptions } from './server.js'
import { exit, exitHelp, failed, isServiceError, messagesOf, parseCount, repeated, withService } from './service.js'
import { tellProgress, waitedFor } from './waiting.js'

/** What the command line asks for. */
interface Options extends ServerOptions {
  readonly tap?: readonly string[]
  readonly bridge?: string
  readonly filter?: string
  readonly snapLen?: number
  readonly count?: number
  readonly list?: true
  readonly write?: string
}

/** `ovs-bridged capture`: packets of a running service, for Wireshark and its like. */
export const defineCapture: DefineCommand = (program, choose) => {
  const command: Command = addServerOptions(
    program
      .command('capture')
      .description('write packets of taps or a bridge as pcapng, as they come')
      .option('--tap <name>', 'a tap; may be repeated', repeated)
      .option('--bridge <name>', 'each frame that a bridge forwards, once, with its VLAN tag')
      .option('--filter <expression>', 'pcap-filter(7); default: all packets')
      .option('--snap-len <bytes>', 'kept of each packet, 1 to 262144 (default: 1600)', parseSnapLen)
      .option('-c, --count <packets>', 'end after so many', parseCount)
      .option('-w, --write <file>', 'a file or a named pipe; -: standard output')
      .option('--list', 'list what can be captured, and end'),
  ).addHelpText('after', exitHelp())
  command.action((options: Options) => {
    const { tap, bridge, write } = options
    if (options.list) choose(() => withService('capture', options, list))
    else if (write === undefined) command.error("required option '-w, --write <file>' not specified")
    else if (tap === undefined && bridge === undefined) command.error('--tap or --bridge has to say what is captured')
    else if (tap !== undefined && bridge !== undefined) command.error('--tap and --bridge exclude each other')
    else choose(() => withService('capture', options, client => capture(client, write, options)))
  })
}

function parseSnapLen(text: string): number {
  const bytes = /^\d{1,6}$/.test(text) ? Number(text) : 0
  if (bytes < 1 || bytes > 262_144) throw new InvalidArgumentError('It is not 1 to 262144.')
  return bytes
}

/** Until the stream ends, the reader of what is written leaves, or a signal says so. */
async function capture(client: BridgeServiceClient, write: string, options: Options): Promise<number> {
  if (write === '-' && process.stdout.isTTY)
    return failed('capture', 'standard output is a terminal: | tcpdump -r - or -w FILE')
  const { tap = [], bridge = '', filter = '', snapLen = 0, count = 0 } = options
  const request = { taps: [...tap], bridge, filter, snapLen, maxPackets: BigInt(count) }
  const call = client.streamCapture(request)
  using left = abortScope()
  const leave = () => {
    left.abort(cancelled())
    call.cancel()
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, leave)
  let writeError: NodeJS.ErrnoException | undefined
  const open = async (): Promise<Writable | undefined> => {
    const opened: Writable | undefined = write === '-' ? process.stdout : await openOutput(write, left.signal)
    return opened?.once('error', (error: NodeJS.ErrnoException) => {
      writeError = error
      leave()
    })
  }
  let out: Writable | undefined
  let bytes = 0
  // Who reads standard output shows what comes.
  const progress = write === '-' ? undefined : tellProgress(() => `${bytes} bytes`)
  try {
    for await (const { data } of messagesOf(call)) {
      bytes += data.length
      // Not before the service has agreed: what the file holds is gone then.
      out ??= await open()
      if (out === undefined) break
      if (!out.write(data)) await drained(out)
    }
    return exit.done
  } catch (error) {
    if (writeError !== undefined)
      return writeError.code === 'EPIPE' ? exit.done : failed('capture', `${write}: ${wordsOf(writeError)}`)
    if (!isServiceError(error)) throw error
    if (error.code !== status.CANCELLED) throw error
    return exit.done
  } finally {
    progress?.[Symbol.dispose]()
    if (out !== undefined && writeError === undefined) await flushed(out)
  }
}

/** `ENOENT: no such file or directory`, without the system call and the path. */
function wordsOf({ message }: NodeJS.ErrnoException): string {
  return message.split(', ', 1).join()
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
async function list(client: BridgeServiceClient): Promise<number> {
  const { bridges, taps } = await waitedFor('the service', inventoryOf(client))
  for (const { name } of bridges) process.stdout.write(`bridge\t${name}\teach frame once\n`)
  for (const { name, bridge, vlan } of taps) process.stdout.write(`tap\t${name}\t${bridge}, VLAN ${vlan}\n`)
  return exit.done
}
