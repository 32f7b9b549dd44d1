import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync } from 'node:fs'
import {
  chmod,
  chown,
  lchown,
  mkdir,
  mkdtemp,
  readdir,
  rename,
  rm,
  rmdir,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Client, credentials } from '@grpc/grpc-js'
import { pino } from 'pino'
import { parseUnixAddress } from '../../src/lib/socket-address.js'
import { Calls } from '../../src/server/call.js'
import { type Listening, type ListenOptions, listen } from '../../src/server/listen.js'
import { ListenError } from '../../src/server/listen-error.js'
import { bindUnix } from '../../src/server/unix-socket.js'
import { inheritedSockets } from '../../src/systemd/index.js'
import { listeningSocket } from '../support/listening-socket.js'
import { door, echo, echoService } from '../support/server-rig.js'

interface Directory extends AsyncDisposable {
  readonly path: string
}

async function makeDirectory(): Promise<Directory> {
  const path = await mkdtemp(join(tmpdir(), 'listen-test-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

function listenOn(addresses: readonly string[], options: Partial<ListenOptions> = {}): Promise<Listening> {
  const log = pino({ level: 'silent' })
  const calls = new Calls({ log })
  return listen({
    doors: addresses.map(text => door(text)),
    roleOf: () => 'viewer',
    calls,
    log,
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

test('what a daemon leaves that is killed while it binds is removed, and not what another one binds', async () => {
  await using directory = await makeDirectory()
  const child = spawn('true')
  await once(child, 'exit')
  const [left, ours, another] = [child.pid, process.pid, process.ppid].map(pid => `.new-${pid}-abcdef`)
  for (const name of [left, ours, another]) await mkdir(join(directory.path, name ?? ''))
  await leaveStaleSocket(join(directory.path, left ?? '', 's'))
  await using _listening = await listenOn([`unix:${join(directory.path, 'api.sock')}`])
  assert.deepEqual(await readdir(directory.path), [another, 'api.sock'])
})

test('what somebody has put where a killed daemon bound is left, and stops no start', async () => {
  await using directory = await makeDirectory()
  const child = spawn('true')
  await once(child, 'exit')
  const left = join(directory.path, `.new-${child.pid}-abcdef`)
  await mkdir(join(left, 's'), { recursive: true })
  await using _listening = await listenOn([`unix:${join(directory.path, 'api.sock')}`])
  assert.deepEqual(await readdir(left), ['s'])
})

test('what another daemon removes at the same time is removed', async () => {
  await using directory = await makeDirectory()
  const child = spawn('true')
  await once(child, 'exit')
  const left = Array.from({ length: 500 }, (_, i) =>
    join(directory.path, `.new-${child.pid}-${String(i).padStart(6, '0')}`),
  )
  for (const path of left) mkdirSync(path)
  const starting = listenOn([`unix:${join(directory.path, 'api.sock')}`])
  for (const path of left.toReversed()) await rmdir(path).catch(() => undefined)
  await using _listening = await starting
  assert.deepEqual(await readdir(directory.path), ['api.sock'])
})

test('a live socket is left to its daemon', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  await using _first = await listenOn([`unix:${path}`])
  const error: unknown = await listenOn([`unix:${path}`]).catch((thrown: unknown) => thrown)
  assert.deepEqual(problemOf(error), { kind: 'in-use', message: `another daemon is listening on ${path}` })
  assert(await answers(`unix:${path}`))
})

for (const what of ['nothing', 'a stale socket'] as const) {
  test(`where there was ${what}, a daemon that comes first by a moment keeps its socket`, async () => {
    await using directory = await makeDirectory()
    const parsed = parseUnixAddress(`unix:${directory.path}/api.sock`)
    assert(parsed.ok)
    const { path } = parsed.value
    if (what === 'a stale socket') await leaveStaleSocket(path)
    const [first, second] = [createServer(), createServer()]
    const binding = bindUnix({ path, mode: 0o660, group: undefined, ownDirectories: [] }, async fresh => {
      await once(second.listen(fresh), 'listening')
      await once(first.listen(`${path}.new`), 'listening')
      await rename(`${path}.new`, path)
    })
    const error: unknown = await binding.catch((thrown: unknown) => thrown)
    assert.deepEqual(problemOf(error), { kind: 'in-use', message: `another daemon is listening on ${path}` })
    const socket = connect(path)
    await Promise.all([once(first, 'connection'), once(socket, 'connect')])
    socket.destroy()
    for (const server of [first, second]) server.close()
  })
}

test('a file that is no socket is never replaced', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  await writeFile(path, 'precious')
  const error: unknown = await listenOn([`unix:${path}`]).catch((thrown: unknown) => thrown)
  assert.deepEqual(problemOf(error), { kind: 'not-a-socket', message: `${path} exists and is not a socket` })
})

test('a socket has the mode and the group that were asked for', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  await using _listening = await listenOn([`unix:${path},mode=0606,group=12345`])
  const { mode, gid, uid } = await stat(path)
  assert.deepEqual([mode & 0o7777, gid, uid], [0o606, 12345, process.getuid?.()])
})

test('a group is known by its name', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  await using _listening = await listenOn([`unix:${path},group=daemon`])
  assert.equal((await stat(path)).gid, 1)
})

test('a group that there is not is refused, and nothing is left', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  const error: unknown = await listenOn([`unix:${path},group=no-such`]).catch((thrown: unknown) => thrown)
  assert.equal(problemOf(error).message, `there is no group no-such to give unix:${path} to`)
  assert.deepEqual(await readdir(directory.path), [])
})

const somebody = 65_534

test("somebody else's stale socket is not replaced", async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  await leaveStaleSocket(path)
  await chown(path, somebody, somebody)
  const error: unknown = await listenOn([`unix:${path}`]).catch((thrown: unknown) => thrown)
  assert.deepEqual(problemOf(error), { kind: 'unsafe-path', message: `${path} is somebody else's socket` })
})

test('a symbolic link in the place of the socket is not followed', async () => {
  await using directory = await makeDirectory()
  const path = join(directory.path, 'api.sock')
  await symlink(join(directory.path, 'elsewhere'), path)
  const error: unknown = await listenOn([`unix:${path}`]).catch((thrown: unknown) => thrown)
  assert.deepEqual(problemOf(error), { kind: 'not-a-socket', message: `${path} exists and is not a socket` })
  assert.deepEqual(await readdir(directory.path), ['api.sock'])
})

test('a directory may be a symbolic link of ours, as /var/run is', async () => {
  await using directory = await makeDirectory()
  await mkdir(join(directory.path, 'real'))
  await symlink('real', join(directory.path, 'link'))
  await using _listening = await listenOn([`unix:${directory.path}/link/api.sock`])
  assert(await answers(`unix:${directory.path}/real/api.sock`))
})

for (const [what, spoil] of [
  ['is written to by others', (path: string) => chmod(path, 0o777)],
  ['is written to by a group', (path: string) => chmod(path, 0o770)],
  ["is somebody else's", (path: string) => chown(path, somebody, somebody)],
] as const) {
  test(`a directory that ${what} is refused, also above a safe one`, async () => {
    await using directory = await makeDirectory()
    await mkdir(join(directory.path, 'a', 'b'), { recursive: true })
    await spoil(join(directory.path, 'a'))
    for (const where of ['a', 'a/b']) {
      const error: unknown = await listenOn([`unix:${directory.path}/${where}/s`]).catch((thrown: unknown) => thrown)
      assert.equal(problemOf(error).kind, 'unsafe-path')
    }
    assert.deepEqual(await readdir(join(directory.path, 'a', 'b')), [])
  })
}

test("somebody else's symbolic link on the way is refused", async () => {
  await using directory = await makeDirectory()
  await mkdir(join(directory.path, 'real'))
  await symlink('real', join(directory.path, 'link'))
  await lchown(join(directory.path, 'link'), somebody, somebody)
  const error: unknown = await listenOn([`unix:${directory.path}/link/s`]).catch((thrown: unknown) => thrown)
  assert.equal(problemOf(error).kind, 'unsafe-path')
})

test('a directory in which each may remove only what is theirs will do, as /tmp', async () => {
  await using directory = await makeDirectory()
  await chmod(directory.path, 0o1777)
  await using _listening = await listenOn([`unix:${directory.path}/api.sock`])
})

test('our own directory is made, closed to others', async () => {
  await using directory = await makeDirectory()
  const run = join(directory.path, 'run')
  await using _listening = await listenOn([`unix:${run}/api.sock`], { ownDirectories: [{ path: run, mode: 0o750 }] })
  assert.equal((await stat(run)).mode & 0o7777, 0o750)
})

test('a directory of ours has its mode, whatever umask says', async () => {
  await using directory = await makeDirectory()
  const run = join(directory.path, 'run')
  const before = process.umask(0o077)
  await using _listening = await listenOn([`unix:${run}/view.sock`], {
    ownDirectories: [{ path: run, mode: 0o755 }],
  }).finally(() => process.umask(before))
  assert.equal((await stat(run)).mode & 0o7777, 0o755)
})

test("somebody else's directory is not made", async () => {
  await using directory = await makeDirectory()
  const error: unknown = await listenOn([`unix:${directory.path}/run/api.sock`]).catch((thrown: unknown) => thrown)
  assert.equal(problemOf(error).kind, 'cannot-bind')
  assert.deepEqual(await readdir(directory.path), [])
})

test('all sockets that systemd passes under one name are served, and one that no door names is told', async () => {
  await using directory = await makeDirectory()
  const [one = '', other = '', third = ''] = ['one', 'other', 'third'].map(name => join(directory.path, name))
  const fds = [one, other, third].map(listeningSocket)
  const lines: string[] = []
  // The numbers that systemd would have given them.
  const passed = inheritedSockets({ LISTEN_PID: '1', LISTEN_FDS: '3', LISTEN_FDNAMES: 'api:api:forgotten' }, 1)
  const inherited = new Map([...passed].map(([name, numbers]) => [name, numbers.map(number => fds[number - 3] ?? -1)]))
  await using _listening = await listenOn(['systemd:api'], {
    inherited,
    log: pino({}, { write: line => lines.push(line) }),
  })
  assert(await answers(`unix:${one}`))
  assert(await answers(`unix:${other}`))
  assert.match(lines.join(''), /"address":"systemd:forgotten","msg":"systemd passed a socket that no --listen names"/)
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
