import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client, credentials, type Metadata, type Server, type ServiceError, status } from '@grpc/grpc-js'
import { pino } from 'pino'
import { Calls, type CallsOptions } from '../../src/server/call.js'
import type { CallRecord } from '../../src/server/call-log.js'
import { type Door, parseDoor } from '../../src/server/door.js'
import { type Listening, type ListenOptions, listen } from '../../src/server/listen.js'

/** Two methods without a schema: what they carry is text. */
export const echoService = {
  echo: method('Echo', false),
  count: method('Count', true),
}

/** `echo` with requests that take so long to decode. */
export function slowEcho(decodeMs: number) {
  const requestDeserialize = (bytes: Buffer) => {
    const until = performance.now() + decodeMs
    while (performance.now() < until);
    return bytes.toString()
  }
  return { ...echoService.echo, requestDeserialize }
}

function method<const Stream extends boolean>(name: string, responseStream: Stream) {
  const serialize = (text: string) => Buffer.from(text)
  const deserialize = (bytes: Buffer) => bytes.toString()
  return {
    path: `/test.Echo/${name}`,
    requestStream: false as const,
    responseStream,
    requestSerialize: serialize,
    requestDeserialize: deserialize,
    responseSerialize: serialize,
    responseDeserialize: deserialize,
  }
}

export interface Rig extends AsyncDisposable {
  readonly calls: Calls
  readonly listening: Listening
  readonly socket: string
  readonly client: Client
  /** Lines of the log, parsed. */
  readonly lines: unknown[]
  readonly records: CallRecord[]
}

/** A real server on a unix socket of its own, and a client. */
export async function startRig(
  register: (server: Server, calls: Calls) => void,
  options: Partial<CallsOptions & ListenOptions> = {},
): Promise<Rig> {
  const directory = await mkdtemp(join(tmpdir(), 'server-test-'))
  const socket = join(directory, 'api.sock')
  const lines: unknown[] = []
  const records: CallRecord[] = []
  const log = pino({ base: null }, { write: (line: string) => lines.push(JSON.parse(line)) })
  const calls = new Calls({ log, onCall: record => records.push(record), ...options })
  const listening = await listen({
    doors: [door(`unix:${socket}`)],
    roleOf: () => 'viewer',
    calls,
    log,
    drainTimeoutMs: 5_000,
    ...options,
    register: server => register(server, calls),
  }).catch(async (error: unknown) => {
    await rm(directory, { recursive: true })
    throw error
  })
  const client = new Client(`unix:${socket}`, credentials.createInsecure())
  return {
    calls,
    listening,
    socket,
    client,
    lines,
    records,
    async [Symbol.asyncDispose]() {
      client.close()
      await listening[Symbol.asyncDispose]()
      await rm(directory, { recursive: true, force: true })
    },
  }
}

/** As `--listen` takes it, with `--insecure-loopback`. */
export function door(text: string, insecureLoopback = true): Door {
  const result = parseDoor(text, { insecureLoopback, tls: true })
  if (!result.ok) throw new Error(`${text} ${result.reason}`)
  return result.value
}

export const tlsDoor = (text: string) => door(text, false)

export interface Reply {
  readonly code: status
  readonly text: string
  readonly trailers: Metadata | undefined
}

export interface EchoCall {
  readonly reply: Promise<Reply>
  cancel(): void
}

/** Calls Echo; never rejects. */
export function echo(client: Client, text: string, deadline?: number): EchoCall {
  const { path, requestSerialize, responseDeserialize } = echoService.echo
  let cancel = () => {}
  const reply = new Promise<Reply>(resolve => {
    const done = (error: ServiceError | null, value?: string) => {
      if (error === null) resolve({ code: status.OK, text: value ?? '', trailers: undefined })
      else resolve({ code: error.code, text: error.details, trailers: error.metadata })
    }
    const options = deadline === undefined ? {} : { deadline }
    const call = client.makeUnaryRequest(path, requestSerialize, responseDeserialize, text, options, done)
    cancel = () => call.cancel()
  })
  return { reply, cancel: () => cancel() }
}

/** A promise with its handles outside. */
export function deferred<T>(): { readonly promise: Promise<T>; resolve(value: T): void } {
  let settle: (value: T) => void = () => {}
  const promise = new Promise<T>(resolve => {
    settle = resolve
  })
  return { promise, resolve: value => settle(value) }
}
