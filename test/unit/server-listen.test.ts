import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Client, credentials } from '@grpc/grpc-js'
import { pino } from 'pino'
import { Calls } from '../../src/server/call.js'
import { ListenError, type Listening, type ListenOptions, listen } from '../../src/server/listen.js'
import { address, echo, echoService } from './server-rig.js'

interface Directory extends AsyncDisposable {
  readonly path: string
}

async function makeDirectory(): Promise<Directory> {
  const path = await mkdtemp(join(tmpdir(), 'listen-test-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

function listenOn(addresses: readonly string[], options: Partial<ListenOptions> = {}): Promise<Listening> {
  const calls = new Calls({ log: pino({ level: 'silent' }) })
  return listen({
    addresses: addresses.map(address),
    calls,
    drainTimeoutMs: 1_000,
    register: server =>
      server.addService({ echo: echoService.echo }, { echo: calls.unary(async (request: string) => request) }),
    ...options,
  })
}

async function answers(target: string): Promise<boolean> {
  const client = new Client(target, credentials.createInsecure())
  const { text } = await echo(client, 'there', Date.now() + 5_000).reply
  client.close()
  return text === 'there'
}

function problemOf(error: unknown) {
  assert(error instanceof ListenError)
  return { kind: error.problem.kind, message: error.problem.message }
}

/** A process that listened on `path` and was killed: its socket file stays. */
async function leaveStaleSocket(path: string): Promise<void> {
  const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`
  const child: ChildProcess = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  if (child.stdout) await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
}

test('a unix socket answers, has its mode, and nothing else is left beside it', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  await using listening = await listenOn([`unix:${path}`])
  assert.deepEqual(listening.addresses, [`unix:${path}`])
  assert.equal((await stat(path)).mode & 0o7777, 0o660)
  assert.deepEqual(await readdir(directory.path), ['api.sock'])
  assert(await answers(`unix:${path}`))
})

test('the socket is gone after a stop', async () => {
  await using directory = await makeDirectory()
  const listening = await listenOn([`unix:${join(directory.path, 'api.sock')}`])
  await listening[Symbol.asyncDispose]()
  assert.deepEqual(await readdir(directory.path), [])
})

test('stopping leaves a socket that somebody else put there since', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  const first = await listenOn([`unix:${path}`])
  await rm(path)
  await using second = await listenOn([`unix:${path}`])
  await first[Symbol.asyncDispose]()
  assert(await answers(second.addresses[0] ?? ''))
})

test('a stale socket is replaced', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  await leaveStaleSocket(path)
  assert((await stat(path)).isSocket())
  await using _listening = await listenOn([`unix:${path}`])
  assert(await answers(`unix:${path}`))
})

test('a live socket is left to its daemon', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  await using _first = await listenOn([`unix:${path}`])
  const error: unknown = await listenOn([`unix:${path}`]).catch((thrown: unknown) => thrown)
  assert.deepEqual(problemOf(error), { kind: 'in-use', message: `another daemon is listening on ${path}` })
  assert(await answers(`unix:${path}`))
})

test('a file that is no socket is never replaced', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  await writeFile(path, 'precious')
  const error: unknown = await listenOn([`unix:${path}`]).catch((thrown: unknown) => thrown)
  assert.deepEqual(problemOf(error), { kind: 'not-a-socket', message: `${path} exists and is not a socket` })
})

test('our own directory is made, closed to others', async () => {
  await using directory = await makeDirectory()
  const run = join(directory.path, 'run')
  await using _listening = await listenOn([`unix:${run}/api.sock`], { ownDirectories: [run] })
  assert.equal((await stat(run)).mode & 0o7777, 0o750)
})

test("somebody else's directory is not made", async () => {
  await using directory = await makeDirectory()
  const error: unknown = await listenOn([`unix:${directory.path}/run/api.sock`]).catch((thrown: unknown) => thrown)
  assert.equal(problemOf(error).kind, 'cannot-bind')
  assert.deepEqual(await readdir(directory.path), [])
})

test('TCP on the loopback answers, with the port that was chosen', async () => {
  await using listening = await listenOn(['127.0.0.1:0'])
  const [bound = ''] = listening.addresses
  assert.match(bound, /^127\.0\.0\.1:[1-9]\d*$/)
  assert(await answers(bound))
})

test('when one address cannot be served none is', async () => {
  await using directory = await makeDirectory()
  await mkdir(join(directory.path, 'run'))
  const other = createServer().listen(0, '127.0.0.1')
  await once(other, 'listening')
  const taken = other.address()
  assert(taken !== null && typeof taken === 'object')
  const path = join(directory.path, 'run', 'api.sock')
  const error: unknown = await listenOn([`unix:${path}`, `127.0.0.1:${taken.port}`]).catch((thrown: unknown) => thrown)
  assert.deepEqual(problemOf(error), {
    kind: 'in-use',
    message: `another process is listening on 127.0.0.1:${taken.port}`,
  })
  assert.deepEqual(await readdir(join(directory.path, 'run')), [])
  other.close()
})

test('an idle watcher of somebody else does not hold up a stop', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  const listening = await listenOn([`unix:${path}`], {
    drainTimeoutMs: 60_000,
    register: server => server.addService({ count: echoService.count }, { count: () => {} }),
  })
  const client = new Client(`unix:${path}`, credentials.createInsecure())
  const { path: method, requestSerialize, responseDeserialize } = echoService.count
  const stream = client.makeServerStreamRequest(method, requestSerialize, responseDeserialize, 'x')
  const ended = new Promise(resolve => stream.on('error', resolve))
  await new Promise<void>((resolve, reject) => {
    client.waitForReady(Date.now() + 5_000, error => (error ? reject(error) : resolve()))
  })
  const startedAt = Date.now()
  await listening[Symbol.asyncDispose]()
  assert(Date.now() - startedAt < 5_000)
  client.close()
  stream.cancel()
  await ended
})
