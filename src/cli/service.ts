import { once } from 'node:events'
import { type ClientReadableStream, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { InvalidArgumentError } from 'commander'
import { BridgeServiceClient } from '../gen/ovs/bridge/v1/service.js'
import { messageOf } from '../lib/thrown.js'
import { channelTo, type ServerOptions } from './server.js'
import { tellOfWaiting } from './waiting.js'

/**
 * How a command ends. `failed`: the service cannot be reached or refused, or something that `check` looks for is missing.
 * `differs`: `drift` has found something. A command line that cannot be is 2.
 */
export const exit = { done: 0, failed: 1, differs: 3 } as const

/** The same, for the help of a command: its `failed`, and what codes it has beside. */
export function exitHelp(orFailed = '', others = ''): string {
  const failedWhen = `the service cannot be reached or refuses${orFailed}`
  return `\nExit codes:\n  0 all went well\n  1 ${failedWhen}\n  2 the command line is wrong${others}`
}

const callTimeoutMs = 30_000

/** Takes a whole number from 1, of at most 15 digits. */
export function parseCount(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw new InvalidArgumentError('It is not a whole number from 1.')
  return Number(text)
}

/** Collects the values of an option that may be repeated. */
export function repeated(value: string, before: readonly string[] | undefined): readonly string[] {
  return [...(before ?? []), value]
}

/**
 * Runs `action` with a client of the service and resolves to its exit code; what the service refuses is one line on standard
 * error and `exit.failed`.
 */
export async function withService(
  command: string,
  server: ServerOptions,
  action: (client: BridgeServiceClient) => Promise<number>,
): Promise<number> {
  let channel: ReturnType<typeof channelTo>
  try {
    channel = channelTo(server)
  } catch (error) {
    return failed(command, `TLS: ${messageOf(error)}`)
  }
  const client = new BridgeServiceClient(...channel)
  let writeError: NodeJS.ErrnoException | undefined
  // Each write that fails tells so.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    writeError ??= error
  })
  try {
    const code = await action(client)
    // Whether the last of it could be written is known once it was.
    await new Promise(resolve => process.stdout.write('', resolve))
    // Who reads no further has what is wanted.
    const lost = code === exit.done && writeError !== undefined && writeError.code !== 'EPIPE'
    return lost ? failed(command, 'standard output cannot be written') : code
  } catch (error) {
    if (!isServiceError(error)) throw error
    return failed(command, reasonOf(error))
  } finally {
    client.close()
  }
}

/** What the service says; where it cannot be reached, the error that grpc-js quotes last. */
function reasonOf({ details }: ServiceError): string {
  const [, last] = /^No connection established\. Last error: (?:Error: )?(.+?)\. Resolution note:/.exec(details) ?? []
  return last === undefined ? details : `the service cannot be reached: ${last}`
}

type Unary<Q, R> = (
  request: Q,
  metadata: Metadata,
  options: { readonly deadline: number },
  done: (error: ServiceError | null, response: R) => void,
) => unknown

/** The answer to a unary call, which has 30 s. */
export function ask<Q, R>(client: BridgeServiceClient, call: Unary<Q, R>, request: Q): Promise<R> {
  return new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + callTimeoutMs }
    call.call(client, request, new Metadata(), options, (error, response) => {
      if (error === null) resolve(response)
      else reject(error)
    })
  })
}

/** All items of a paged list. */
export async function allPages<T>(
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

/**
 * Hands each message of a stream to `tell` until that says false, SIGINT or SIGTERM comes, or nobody reads standard
 * output any more: each a proper end.
 */
export async function follow<T>(
  stream: ClientReadableStream<T>,
  what: string,
  tell: (message: T) => boolean,
): Promise<number> {
  const leave = () => stream.cancel()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, leave)
  process.stdout.once('error', leave)
  // Heard by the loop, or what a cancelled call ends with.
  stream.on('error', () => {})
  const wait = tellOfWaiting(what)
  try {
    for await (const message of messagesOf(stream)) {
      wait[Symbol.dispose]()
      if (!tell(message)) break
      if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain')
    }
    return exit.done
  } catch (error) {
    if (process.stdout.errored || (isServiceError(error) && error.code === status.CANCELLED)) return exit.done
    throw error
  } finally {
    wait[Symbol.dispose]()
    // Leaving a loop ends its stream, and not the call.
    stream.cancel()
  }
}

/** What grpc-js types as a stream of `any`. */
export function messagesOf<T>(stream: ClientReadableStream<T>): AsyncIterable<T> {
  return stream
}

/** Whether grpc-js made it: a status other than OK. */
export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'details' in error
}

/** Says why, in one line, and gives the exit code. */
export function failed(command: string, why: string): number {
  process.stderr.write(`ovs-bridged ${command}: ${why}\n`)
  return exit.failed
}
