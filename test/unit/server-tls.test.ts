import assert from 'node:assert/strict'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect as connectPlain, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { connect } from 'node:tls'
import { type ChannelCredentials, Client, credentials, Metadata, status } from '@grpc/grpc-js'
import { raceAbort } from '../../src/lib/abort.js'
import { roleOfNames } from '../../src/server/caller.js'
import type { Limits } from '../../src/server/limits.js'
import { mostShaking } from '../../src/server/strangers.js'
import { handshakeMs } from '../../src/server/turns.js'
import { type Authority, clientCredentials, createAuthority, type Issued, roleUri } from '../support/certificates.js'
import { echo, echoService, startRig, tlsDoor } from '../support/server-rig.js'
import { until, within } from '../support/until.js'

/** The files are looked at every 2 s. */
const patient = { deadlineMs: 30_000 }

/** A server with mutual TLS whose files can be replaced, as certificate renewal does. */
async function startTls(authority: Authority, limits: Partial<Limits> = {}, at = '127.0.0.1:0') {
  const directory = mkdtempSync(join(tmpdir(), 'tls-'))
  const certificates = { cert: join(directory, 'crt'), key: join(directory, 'key'), clientCa: join(directory, 'ca') }
  const install = (by: Authority, issued: Issued) => {
    copyFileSync(issued.cert, certificates.cert)
    copyFileSync(issued.key, certificates.key)
    copyFileSync(by.ca, certificates.clientCa)
  }
  install(authority, authority.issue('server'))
  const rig = await startRig(
    (server, calls) =>
      server.addService(echoService, {
        echo: calls.unary<string, string>(async (request, call) => `${request} ${call.caller}`),
        count: calls.serverStream<string, string>(async function* (_request, { signal }) {
          for (let i = 0; ; i++) {
            yield String(i)
            await raceAbort(new Promise(resolve => setTimeout(resolve, 20)), signal)
          }
        }),
      }),
    { doors: [tlsDoor(at)], certificates, limits },
  )
  const [address = ''] = rig.listening.addresses
  return {
    rig,
    address,
    certificates,
    install,
    [Symbol.asyncDispose]: async () => {
      await rig[Symbol.asyncDispose]()
      rmSync(directory, { recursive: true })
    },
  }
}

async function replyTo(address: string, creds: ChannelCredentials) {
  // A connection of its own: grpc-js shares those that look alike.
  const client = new Client(address, creds, { 'grpc.use_local_subchannel_pool': 1, 'grpc.enable_retries': 0 })
  const reply = await echo(client, 'hello', Date.now() + 20_000).reply
  client.close()
  return reply
}

test('who has a certificate of the authority is served, and named by it', async () => {
  using authority = createAuthority()
  await using tls = await startTls(authority)
  const { code, text } = await replyTo(
    tls.address,
    clientCredentials(authority, authority.issue('alice', roleUri('viewer'))),
  )
  assert.equal(code, status.OK, text)
  assert.match(text, /^hello Echo by 127\.0\.0\.1:\d+ sha256=[\da-f]{16} cn=alice$/)
})

test('who has none, or one of another authority, does not get as far as a call', async () => {
  using authority = createAuthority()
  using other = createAuthority()
  await using tls = await startTls(authority)
  const { key, cert } = other.issue('mallory', roleUri('admin'))
  const foreign = credentials.createSsl(readFileSync(authority.ca), readFileSync(key), readFileSync(cert))
  assert.equal((await replyTo(tls.address, clientCredentials(authority))).code, status.UNAVAILABLE)
  assert.equal((await replyTo(tls.address, foreign)).code, status.UNAVAILABLE)
  assert.equal((await replyTo(tls.address, credentials.createInsecure())).code, status.UNAVAILABLE)
  assert.deepEqual(tls.rig.records, [])
})

test('the log says why a certificate is not believed, and whose', async () => {
  using authority = createAuthority()
  using other = createAuthority()
  await using tls = await startTls(authority)
  const { key, cert } = other.issue('mallory', roleUri('admin'))
  const foreign = credentials.createSsl(readFileSync(authority.ca), readFileSync(key), readFileSync(cert))
  await replyTo(tls.address, foreign)
  const line = await until('a line', () => tls.rig.lines.map(line => JSON.stringify(line))[0])
  // verify(1), as Node.js names its codes.
  assert.match(line, /"peer":"127\.0\.0\.1:\d+","message":"UNABLE_TO_VERIFY_LEAF_SIGNATURE"/)
})

test('strangers shake hands one after the other, with a rest for others in between', async () => {
  using authority = createAuthority()
  await using tls = await startTls(authority)
  const port = Number(tls.address.split(':')[1])
  const many = 60
  const shakeHands = async () => {
    const socket = connect({ port, host: '127.0.0.1', ca: readFileSync(authority.ca), ALPNProtocols: ['h2'] })
    await new Promise(resolve =>
      socket
        .on('error', () => {})
        .resume()
        .once('close', resolve),
    )
  }
  const beganMs = performance.now()
  await Promise.all(Array.from({ length: many }, shakeHands))
  assert(performance.now() - beganMs >= (many - 1) * handshakeMs)
})

/** Says so much of a handshake, and waits. */
async function connectStranger(address: string, said: string) {
  const socket = connectPlain(Number(address.split(':')[1]), '127.0.0.1')
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  socket.on('error', () => {}).resume()
  await once(socket, 'connect')
  socket.write(said)
  return { closed, [Symbol.dispose]: () => void socket.destroy() }
}

for (const [who, said] of [
  ['says nothing', ''],
  ['does not end what it says', '\x16\x03\x01'],
] as const) {
  test(`who connects and ${who} is cut off in the end`, async () => {
    using authority = createAuthority()
    await using tls = await startTls(authority, { handshakeTimeoutMs: 200 })
    using stranger = await connectStranger(tls.address, said)
    await within('it is cut off', patient.deadlineMs, stranger.closed)
    const line = await until('a line', () => tls.rig.lines.map(line => JSON.stringify(line))[0])
    assert.match(line, /"peer":"127\.0\.0\.1:\d+","message":"TLS handshake timeout"/)
  })
}

test('who says nothing keeps nobody waiting', async () => {
  using authority = createAuthority()
  await using tls = await startTls(authority)
  const silent = await Promise.all(Array.from({ length: 100 }, () => connectStranger(tls.address, '')))
  const alice = clientCredentials(authority, authority.issue('alice', roleUri('viewer')))
  assert.equal((await replyTo(tls.address, alice)).code, status.OK)
  for (const stranger of silent) stranger[Symbol.dispose]()
})

test('only so many shake hands at a time, and who comes after them has its turn', async () => {
  using authority = createAuthority()
  const handshakeTimeoutMs = 1_000
  await using tls = await startTls(authority, { handshakeTimeoutMs })
  const beganMs = performance.now()
  const slow = await Promise.all(
    Array.from({ length: mostShaking + 8 }, () => connectStranger(tls.address, '\x16\x03\x01')),
  )
  const alice = clientCredentials(authority, authority.issue('alice', roleUri('viewer')))
  await until('alice is served', async () => (await replyTo(tls.address, alice)).code === status.OK, patient)
  assert(performance.now() - beganMs >= handshakeTimeoutMs)
  for (const stranger of slow) stranger[Symbol.dispose]()
})

test('who is known takes no place of strangers, whoever else comes from the same address and port', async () => {
  using authority = createAuthority()
  await using tls = await startTls(authority, {}, '0.0.0.0:0')
  const port = Number(tls.address.split(':')[1])
  const issued = authority.issue('alice', roleUri('viewer'))
  const files = { ca: readFileSync(authority.ca), key: readFileSync(issued.key), cert: readFileSync(issued.cert) }
  const open: Socket[] = []
  for (let i = 0; i < mostShaking; i++) {
    const known = connectPlain({ port, host: '127.0.0.1', localAddress: '127.0.0.1' })
    await once(known, 'connect')
    // To another address of the door.
    const localPort = known.localPort ?? 0
    const namesake = connectPlain({ port, host: '127.0.0.2', localAddress: '127.0.0.1', localPort })
    await once(namesake, 'connect')
    const shaken = connect({ socket: known, host: '127.0.0.1', ALPNProtocols: ['h2'], ...files })
    // With what the server says first it is known.
    await once(shaken, 'data')
    open.push(known, namesake)
  }
  const { code, text } = await replyTo(`127.0.0.1:${port}`, clientCredentials(authority, issued))
  assert.equal(code, status.OK, text)
  for (const socket of open) socket.destroy()
})

test('who has not shaken hands yet is cut off when the server stops', async () => {
  using authority = createAuthority()
  await using tls = await startTls(authority)
  // More than have begun to by then.
  const strangers = await Promise.all(Array.from({ length: 50 }, () => connectStranger(tls.address, '')))
  await tls.rig.listening[Symbol.asyncDispose]()
  await within('all are cut off', 5_000, Promise.all(strangers.map(({ closed }) => closed)))
  for (const stranger of strangers) stranger[Symbol.dispose]()
})

test('who is refused again and again has a line in the log once a second', async () => {
  using authority = createAuthority()
  await using tls = await startTls(authority)
  const port = Number(tls.address.split(':')[1])
  const beganMs = performance.now()
  const tries = Array.from({ length: 60 }, async () => {
    const socket = connectPlain(port, '127.0.0.1')
    socket.on('error', () => {}).end('GET / HTTP/1.1\r\n\r\n')
    await once(socket.resume(), 'close')
  })
  await Promise.all(tries)
  const lines = await until('a line', () => tls.rig.lines.length > 0 && tls.rig.lines.map(line => JSON.stringify(line)))
  const [first = ''] = lines
  assert(first.includes(`"address":"${tls.address}"`), first)
  assert.match(first, /"peer":"127\.0\.0\.1:\d+","message":"[^"]+","refused":1,"msg":"TLS client refused"/)
  assert(lines.length <= 1 + (performance.now() - beganMs) / 1_000, `${lines.length} lines`)
  await tls.rig.listening[Symbol.asyncDispose]()
  const told = tls.rig.lines.map(line => Number(/"refused":(\d+)/.exec(JSON.stringify(line))?.[1]))
  assert.equal(
    told.reduce((sum, times) => sum + times, 0),
    60,
  )
})

test('nothing older than TLS 1.3 is spoken', async () => {
  using authority = createAuthority()
  await using tls = await startTls(authority)
  const { key, cert } = authority.issue('alice', roleUri('viewer'))
  const files = { ca: readFileSync(authority.ca), key: readFileSync(key), cert: readFileSync(cert) }
  const port = Number(tls.address.split(':')[1])
  const versionOf = (maxVersion: 'TLSv1.2' | 'TLSv1.3') =>
    new Promise<string>(resolve => {
      const socket = connect({ host: '127.0.0.1', port, ...files, maxVersion, ALPNProtocols: ['h2'] }, () => {
        resolve(socket.getProtocol() ?? '')
        socket.destroy()
      }).on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''))
    })
  assert.equal(await versionOf('TLSv1.3'), 'TLSv1.3')
  assert.match(await versionOf('TLSv1.2'), /PROTOCOL_VERSION/)
})

test('new certificates are taken up, and no stream is dropped for them', async () => {
  using before = createAuthority()
  using since = createAuthority()
  await using tls = await startTls(before)
  const old = clientCredentials(before, before.issue('alice', roleUri('viewer')))
  const client = new Client(tls.address, old, { 'grpc.use_local_subchannel_pool': 1 })
  const { path, requestSerialize, responseDeserialize } = echoService.count
  const stream = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, 'x', new Metadata())
  const got: string[] = []
  const ended: unknown[] = []
  stream.on('data', (text: string) => got.push(text)).on('error', (error: unknown) => ended.push(error))
  await until('the stream runs', () => got.length > 0, patient)

  // A key without its certificate, as between two renames: what was there stays.
  const renewed = since.issue('server')
  copyFileSync(renewed.key, tls.certificates.key)
  await until(
    'what does not fit is told',
    () => JSON.stringify(tls.rig.lines).includes('certificates not reloaded'),
    patient,
  )
  assert.equal((await replyTo(tls.address, old)).code, status.OK)

  tls.install(since, renewed)
  await until('they are taken up', () => JSON.stringify(tls.rig.lines).includes('certificates reloaded'), patient)
  const fresh = clientCredentials(since, since.issue('bob', roleUri('viewer')))
  assert.equal((await replyTo(tls.address, fresh)).code, status.OK)
  assert.equal((await replyTo(tls.address, old)).code, status.UNAVAILABLE)
  const seen = got.length
  await until('the stream goes on', () => got.length > seen + 5, patient)
  assert.deepEqual(ended, [])
  stream.on('error', () => {}).cancel()
  client.close()
})

test('files that are no certificates are told before anything is served', async () => {
  using authority = createAuthority()
  const certificates = { ...authority.issue('server'), clientCa: authority.ca }
  writeFileSync(certificates.cert, 'nonsense')
  const start = startRig(() => {}, { doors: [tlsDoor('127.0.0.1:0')], certificates })
  await assert.rejects(start, { name: 'ListenError', message: /^cannot serve 127\.0\.0\.1:0: / })
})

for (const [what, spoil] of [
  ['nothing', () => ''],
  ['no certificate', () => 'nonsense'],
  ['a certificate and half of another', (pem: string) => pem + pem.slice(0, pem.length / 2)],
] as const) {
  test(`a file of authorities with ${what} in it is told before anything is served`, async () => {
    using authority = createAuthority()
    const certificates = { ...authority.issue('server'), clientCa: authority.ca }
    writeFileSync(authority.ca, spoil(readFileSync(authority.ca, 'utf8')))
    const start = startRig(() => {}, { doors: [tlsDoor('127.0.0.1:0')], certificates })
    await assert.rejects(start, { name: 'ListenError', message: /^cannot serve 127\.0\.0\.1:0: / })
  })
}

test('a name in a certificate looks like no other caller', async () => {
  using authority = createAuthority()
  await using tls = await startTls(authority)
  const forged = authority.issue('alice sha256=0123456789abcdef, DestroyTap by uid=0', roleUri('viewer'))
  const { text } = await replyTo(tls.address, clientCredentials(authority, forged))
  assert.match(
    text,
    /^hello Echo by 127\.0\.0\.1:\d+ sha256=(?!0123)[\da-f]{16} cn=alice sha256=0123456789abcdef\? DestroyTap by uid=0$/,
  )
})

for (const [names, role] of [
  ['URI:urn:ovs-bridged:role:viewer', 'viewer'],
  ['DNS:host, URI:urn:ovs-bridged:role:viewer, URI:urn:ovs-bridged:role:operator', 'operator'],
  ['URI:urn:ovs-bridged:role:admin2', undefined],
  ['DNS:urn:ovs-bridged:role:admin', undefined],
  ['DNS:"x, URI:urn:ovs-bridged:role:admin, y"', undefined],
  ['DNS:"x\\", URI:urn:ovs-bridged:role:admin, \\""', undefined],
  ['', undefined],
] as const) {
  test(`the names ${names || '(none)'} give ${role ?? 'no role'}`, () => {
    assert.equal(roleOfNames(names), role)
  })
}
