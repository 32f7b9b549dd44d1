import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, constants } from 'node:http2'
import { connect } from 'node:net'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { gzipSync } from 'node:zlib'
import {
  Client,
  credentials,
  type handleBidiStreamingCall,
  type handleUnaryCall,
  Metadata,
  status,
} from '@grpc/grpc-js'
import { BaseServerInterceptingCall } from '@grpc/grpc-js/build/src/server-interceptors.js'
import { ErrorInfo } from '../../src/gen/google/rpc/error_details.js'
import { Status } from '../../src/gen/google/rpc/status.js'
import type { Limits } from '../../src/server/limits.js'
import type { ListenOptions } from '../../src/server/listen.js'
import { callBlock, greeting, frame as rawFrame } from '../support/http2-frames.js'
import { deferred, echo, echoService, type Reply, type Rig, slowEcho, startRig } from '../support/server-rig.js'
import { until } from '../support/until.js'

interface Held extends AsyncDisposable {
  readonly rig: Rig
  /** Lets every call that waits be answered. */
  release(): void
  /** A client with a connection of its own. */
  another(): Client
}

/** Echo answers "now" at once and everything else when it is let; Count sends what it can for ever. */
async function startHeld(limits: Partial<Limits>, options: Partial<ListenOptions> = {}): Promise<Held> {
  const held = deferred<void>()
  const clients: Client[] = []
  const rig = await startRig(
    (server, calls) =>
      server.addService(echoService, {
        echo: calls.unary<string, string>(async request => {
          if (request !== 'now') await held.promise
          return request
        }),
        count: calls.serverStream<string, string>(async function* (request) {
          for (;;) yield 'x'.repeat(Number(request))
        }),
      }),
    { limits, ...options },
  )
  return {
    rig,
    release: () => held.resolve(),
    another: () => {
      const client = new Client(`unix:${rig.socket}`, credentials.createInsecure(), {
        'grpc.use_local_subchannel_pool': 1,
        'grpc.enable_retries': 0,
      })
      clients.push(client)
      return client
    },
    [Symbol.asyncDispose]: async () => {
      held.resolve()
      for (const client of clients) client.close()
      await rig[Symbol.asyncDispose]()
    },
  }
}

function reasonOf(reply: Reply): string {
  const [packed] = reply.trailers?.get('grpc-status-details-bin') ?? []
  assert(Buffer.isBuffer(packed), `${status[reply.code]} without details`)
  return ErrorInfo.decode(Status.decode(packed).details[0]?.value ?? Buffer.alloc(0)).reason
}

function assertExhausted(reply: Reply): void {
  assert.equal(status[reply.code], 'RESOURCE_EXHAUSTED', reply.text)
  assert.equal(reasonOf(reply), 'EXHAUSTED')
}

/** What a stream is answered with once it has read as much as it wants. */
function watch(client: Client, bytes: number) {
  const { path, requestSerialize, responseDeserialize } = echoService.count
  const stream = client.makeServerStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    String(bytes),
    new Metadata(),
  )
  const started = new Promise<void>(resolve => stream.once('data', () => resolve(stream.pause() && undefined)))
  const code = new Promise<status>(resolve => stream.on('status', sent => resolve(sent.code)))
  stream.on('error', () => {})
  return { stream, started, code }
}

test('calls beyond what one connection may have are refused at once, and another connection is served', async () => {
  await using held = await startHeld({ callsPerConnection: 3 })
  const waiting = [1, 2, 3].map(() => echo(held.rig.client, 'wait').reply)
  await until('they run', () => held.rig.calls.inFlight === 3)
  assertExhausted(await echo(held.rig.client, 'now').reply)
  assert.equal((await echo(held.another(), 'now').reply).code, status.OK)
  held.release()
  assert.deepEqual(
    (await Promise.all(waiting)).map(({ code }) => code),
    [status.OK, status.OK, status.OK],
  )
  assert.equal((await echo(held.rig.client, 'now').reply).code, status.OK)
})

test('no caller has more than half of the calls there may be, on however many connections', async () => {
  await using held = await startHeld({ calls: 4 })
  const waiting = [held.rig.client, held.another()].map(client => echo(client, 'wait').reply)
  await until('they run', () => held.rig.calls.inFlight === 2)
  assertExhausted(await echo(held.another(), 'now').reply)
  held.release()
  await Promise.all(waiting)
  assert.equal((await echo(held.rig.client, 'now').reply).code, status.OK)
})

test('streams are counted for themselves, and have room again when one is cancelled', async () => {
  await using held = await startHeld({ streamsPerConnection: 2, callsPerConnection: 1 })
  const [one, two] = [watch(held.rig.client, 10), watch(held.rig.client, 10)]
  await Promise.all([one.started, two.started])
  assert.equal(await watch(held.rig.client, 10).code, status.RESOURCE_EXHAUSTED)
  assert.equal((await echo(held.rig.client, 'now').reply).code, status.OK)
  one.stream.cancel()
  await until('there is room', async () => {
    const next = watch(held.rig.client, 10)
    const first = await Promise.race([next.started.then(() => 'runs'), next.code])
    next.stream.cancel()
    return first === 'runs'
  })
  two.stream.cancel()
})

test('calls that come faster than one connection may send them are refused', async () => {
  await using held = await startHeld({ callsPerSecond: 5 })
  const replies = await Promise.all(Array.from({ length: 300 }, () => echo(held.rig.client, 'now').reply))
  const refused = replies.filter(({ code }) => code !== status.OK)
  assert(refused.length > 0 && refused.length <= 295, `${refused.length} of 300 were refused`)
  refused.forEach(assertExhausted)
  const lines = held.rig.lines.filter(line => JSON.stringify(line).includes('"overload"'))
  assert(lines.length > 0 && lines.length < refused.length, 'a flood does not flood the log')
})

test('who floods the server waits for itself, and others do not', async () => {
  let inTurn = 0
  const perTurn: number[] = []
  const rig = await startRig((server, calls) =>
    server.addService(echoService, {
      echo: calls.unary<string, string>(async request => {
        if (inTurn++ === 0) {
          setImmediate(() => {
            perTurn.push(inTurn)
            inTurn = 0
          })
        }
        return request
      }),
      count: calls.serverStream<string, string>(async function* () {}),
    }),
  )
  await using _rig = rig
  const call = (id: number) =>
    Buffer.concat([
      rawFrame('headers', 4, id, callBlock(echoService.echo.path)),
      rawFrame('data', 1, id, frame(0, Buffer.from('now'))),
    ])
  const flood = [greeting, ...Array.from({ length: 3_000 }, (_, i) => call(2 * i + 1))]
  const flooder = connect(rig.socket)
  const gone = new Promise<void>(resolve => flooder.on('error', () => {}).once('close', () => resolve()))
  flooder.resume().write(Buffer.concat(flood))
  assert.equal((await echo(rig.client, 'now').reply).code, status.OK)
  await until('all of it was taken in', () => perTurn.reduce((sum, calls) => sum + calls, 0) > 500)
  // Those of two turns at most are at work in one; without turns it is all that one read of the socket brings.
  assert(Math.max(...perTurn) <= 128, `${Math.max(...perTurn)} calls in one turn`)
  // As often as it was told to wait it was listened to again.
  assert.equal((await echo(rig.client, 'now').reply).code, status.OK)
  flooder.destroy()
  await gone
})

function refusedLines({ lines }: Rig): string[] {
  return lines.map(line => JSON.stringify(line)).filter(line => line.includes('"call refused"'))
}

/** Of how many calls so many lines tell. */
function told(lines: readonly string[]): number {
  return lines.reduce((sum, line) => sum + Number(/"refused":(\d+)/.exec(line)?.[1]), 0)
}

test('who asks and asks for what is not permitted is told of once a second, with how often', async () => {
  await using held = await startHeld({}, { roleOf: () => undefined })
  const replies = await Promise.all(Array.from({ length: 300 }, () => echo(held.rig.client, 'now').reply))
  assert.deepEqual([...new Set(replies.map(({ code }) => status[code]))], ['PERMISSION_DENIED'])
  assert.match(refusedLines(held.rig)[0] ?? '', /"method":"Echo".*"code":"PERMISSION_DENIED".*"refused":1/)
  await until('all are told of', () => told(refusedLines(held.rig)) === 300)
  assert(refusedLines(held.rig).length < 10, `${refusedLines(held.rig).length} lines`)
  assert.equal(held.rig.records.length, 300)
})

test('what was refused in the last second is told of when the server stops', async () => {
  await using held = await startHeld({}, { roleOf: () => undefined })
  await Promise.all(Array.from({ length: 20 }, () => echo(held.rig.client, 'now').reply))
  await held.rig.listening[Symbol.asyncDispose]()
  assert.equal(told(refusedLines(held.rig)), 20)
})

test('an idle connection gives way to a new one, one with a call does not', async () => {
  await using held = await startHeld({ connections: 4 })
  const busy = held.another()
  const waiting = echo(busy, 'wait').reply
  await until('it runs', () => held.rig.calls.inFlight === 1)
  const idle = connect(held.rig.socket)
  idle.on('error', () => {}).resume()
  const gone = once(idle, 'close')
  await once(idle, 'connect')
  for (let i = 0; i < 5; i++) assert.equal((await echo(held.another(), 'now').reply).code, status.OK)
  await gone
  held.release()
  assert.equal((await waiting).code, status.OK)
})

test('where no connection is idle a further one is told that there is no place', async () => {
  await using held = await startHeld({ connections: 4 })
  const waiting = [held.another(), held.another()].map(client => echo(client, 'wait').reply)
  await until('both run', () => held.rig.calls.inFlight === 2)
  const reply = await echo(held.another(), 'now').reply
  assertExhausted(reply)
  assert.equal(reply.text, 'too many connections')
  held.release()
  await Promise.all(waiting)
})

test('a message that is too large is refused from its head', async () => {
  await using held = await startHeld({ messageBytes: 70_000 })
  assertExhausted(await echo(held.rig.client, 'x'.repeat(80_000)).reply)
  assert.equal((await echo(held.rig.client, 'now').reply).code, status.OK)
})

/** HTTP/2 without a gRPC library in between. */
async function http2To(socket: string): Promise<ClientHttp2Session> {
  const session = connectHttp2('http://localhost', { createConnection: () => connect(socket) })
  session.on('error', () => {})
  await once(session, 'connect')
  return session
}

function post(
  session: ClientHttp2Session,
  headers: Readonly<Record<string, string>> = {},
  path = echoService.echo.path,
) {
  const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', ...headers })
  stream.on('error', () => {})
  return stream
}

/** grpc-status of the answer, in its headers or its trailers. */
async function grpcStatus(stream: ClientHttp2Stream): Promise<string> {
  const code = new Promise<string>(resolve => {
    const look = (headers: Readonly<Record<string, unknown>>) => {
      const found = headers['grpc-status']
      if (typeof found === 'string') resolve(found)
    }
    stream.on('response', look).on('trailers', look)
    stream.on('close', () => resolve(`reset ${stream.rstCode}`))
  })
  stream.resume()
  return status[Number(await code)] ?? (await code)
}

const frame = (flags: number, body: Buffer) => Buffer.concat([Buffer.from([flags, 0, 0, 0, body.length]), body])

for (const [what, headers, body] of [
  ['a deadline that is none', { 'grpc-timeout': 'soon' }, frame(0, Buffer.from('now'))],
  ['gzip that is none', { 'grpc-encoding': 'gzip' }, frame(1, Buffer.from('now'))],
] as const) {
  test(`${what} is the client's mistake, and no defect of ours`, async () => {
    await using held = await startHeld({})
    const session = await http2To(held.rig.socket)
    const stream = post(session, headers)
    stream.end(body)
    assert.equal(await grpcStatus(stream), 'INVALID_ARGUMENT')
    session.destroy()
  })
}

test('a request is refused once, however many of its messages cannot be read', async () => {
  await using held = await startHeld({})
  const session = await http2To(held.rig.socket)
  const stream = post(session, { 'grpc-encoding': 'gzip' })
  stream.end(Buffer.concat(Array.from({ length: 100 }, () => frame(1, Buffer.from('now')))))
  assert.equal(await grpcStatus(stream), 'INVALID_ARGUMENT')
  assert.equal((await echo(held.rig.client, 'now').reply).code, status.OK)
  assert.equal(held.rig.records.filter(({ code }) => code === status.INVALID_ARGUMENT).length, 1)
  session.destroy()
})

for (const [what, encoding, body, answer] of [
  ['that is compressed is understood', 'gzip', gzipSync('now'), 'OK'],
  [
    'that is more than a message may be once it is decompressed is refused',
    'gzip',
    gzipSync(Buffer.alloc(80_000)),
    'RESOURCE_EXHAUSTED',
  ],
  ['in an encoding that is not known is refused as that', 'br', Buffer.from('now'), 'UNIMPLEMENTED'],
] as const) {
  test(`a request ${what}`, async () => {
    await using held = await startHeld({ messageBytes: 70_000 })
    const session = await http2To(held.rig.socket)
    const stream = post(session, { 'grpc-encoding': encoding })
    stream.end(frame(1, body))
    assert.equal(await grpcStatus(stream), answer)
    session.destroy()
  })
}

test('what a message takes to be decoded is taken of the turns of its caller', async () => {
  let inTurn = 0
  const perTurn: number[] = []
  const requestDeserialize = (bytes: Buffer) => {
    if (inTurn++ === 0) {
      setImmediate(() => {
        perTurn.push(inTurn)
        inTurn = 0
      })
    }
    const until = performance.now() + 2
    while (performance.now() < until);
    return bytes.toString()
  }
  await using rig = await startRig((server, calls) =>
    server.addService(
      { echo: { ...echoService.echo, requestDeserialize } },
      { echo: calls.unary(async (request: string) => request) },
    ),
  )
  const session = await http2To(rig.socket)
  const streams = Array.from({ length: 40 }, () => post(session))
  for (const stream of streams) stream.end(frame(0, Buffer.from('now')))
  assert.deepEqual([...new Set(await Promise.all(streams.map(grpcStatus)))], ['OK'])
  // Those of two turns at most are at work in one.
  assert(Math.max(...perTurn) <= 2, `${Math.max(...perTurn)} messages in one turn`)
  session.destroy()
})

for (const method of ['decompressAndMaybePush', 'maybePushNextMessage'] as const) {
  test(`a server whose grpc-js has no ${method} says so at its start`, async context => {
    const { prototype } = BaseServerInterceptingCall
    const kept: unknown = Reflect.get(prototype, method)
    context.after(() => Reflect.set(prototype, method, kept))
    Reflect.deleteProperty(prototype, method)
    await assert.rejects(
      startRig(() => {}),
      /^Error: grpc-js decodes messages elsewhere by now$/,
    )
  })
}

for (const [timeout, ms] of [
  ['5S', 5_000],
  ['596H', 596 * 3_600_000],
  // Beyond what a timer takes; of these three 32 bits have what is less than nothing, an hour, and a week.
  ['1000H', 1_000 * 3_600_000],
  ['1194H', 1_194 * 3_600_000],
  ['99999999H', 99_999_999 * 3_600_000],
] as const) {
  test(`a client that gives ${timeout} has so long`, async () => {
    const left: handleUnaryCall<string, string> = (call, respond) =>
      respond(null, String(Number(call.getDeadline()) - Date.now()))
    await using rig = await startRig(server => server.addService({ echo: echoService.echo }, { echo: left }))
    const session = await http2To(rig.socket)
    const stream = post(session, { 'grpc-timeout': timeout })
    stream.end(frame(0, Buffer.from('now')))
    const answer: Buffer[] = []
    stream.on('data', (piece: Buffer) => answer.push(piece))
    assert.equal(await grpcStatus(stream), 'OK')
    const leftMs = Number(Buffer.concat(answer).subarray(5))
    assert(leftMs <= ms && leftMs > ms - 4_000, `${leftMs} of ${ms} ms are left`)
    session.destroy()
  })
}

test('who goes on sending what is refused is told to stop', async () => {
  await using held = await startHeld({ messageBytes: 70_000, callsPerConnection: 1 })
  const session = await http2To(held.rig.socket)
  const tooLarge = post(session)
  tooLarge.write(Buffer.from([0, 0x05, 0xf5, 0xe1, 0]))
  assert.equal(await grpcStatus(tooLarge), 'RESOURCE_EXHAUSTED')
  const waiting = post(session)
  waiting.end(frame(0, Buffer.from('wait')))
  await until('it runs', () => held.rig.calls.inFlight === 1)
  const tooMany = post(session)
  tooMany.write(frame(0, Buffer.from('now')).subarray(0, 6))
  assert.equal(await grpcStatus(tooMany), 'RESOURCE_EXHAUSTED')
  for (const stream of [tooLarge, tooMany]) {
    await until('it is reset', () => stream.closed)
    assert.equal(stream.rstCode, constants.NGHTTP2_NO_ERROR)
  }
  held.release()
  assert.equal(await grpcStatus(waiting), 'OK')
  session.destroy()
})

for (const [what, { path, type }, answer, code] of [
  [
    'of a method that is not served',
    { path: '/test.Echo/Nothing', type: 'application/grpc' },
    { ':status': 200, 'grpc-status': '12' },
    'UNIMPLEMENTED',
  ],
  ['that is no gRPC', { path: echoService.echo.path, type: 'text/html' }, { ':status': 415 }, 'UNKNOWN'],
] as const) {
  test(`a request ${what} is told so, the client to send no more of it, and both stand in the log`, async () => {
    await using held = await startHeld({})
    const session = await http2To(held.rig.socket)
    const stray = post(session, { 'content-type': type }, path)
    stray.write(frame(0, Buffer.from('now')).subarray(0, 6))
    const [headers] = (await once(stray.resume(), 'response')) as [Readonly<Record<string, unknown>>]
    for (const [name, value] of Object.entries(answer)) assert.equal(headers[name], value)
    await until('it is reset', () => stray.closed)
    assert.equal(stray.rstCode, constants.NGHTTP2_NO_ERROR)
    const [record] = held.rig.records
    assert.deepEqual([record?.method, status[record?.code ?? 0]], ['unknown', code])
    assert.match(JSON.stringify(held.rig.lines), new RegExp(`"code":"${code}"`))
    const next = post(session)
    next.end(frame(0, Buffer.from('now')))
    assert.equal(await grpcStatus(next), 'OK')
    session.destroy()
  })
}

function resetCall(id: number): Buffer {
  return Buffer.concat([
    rawFrame('headers', 4, id, callBlock(echoService.echo.path)),
    rawFrame('reset', 0, id, Buffer.from([0, 0, 0, 8])),
  ])
}

for (const [what, headers, ask, code] of [
  ['is taken back', {}, (stream: ClientHttp2Stream) => stream.close(constants.NGHTTP2_CANCEL), 'CANCELLED'],
  ['waits until its deadline', { 'grpc-timeout': '50m' }, () => {}, 'DEADLINE_EXCEEDED'],
  ['comes to its end without a message', {}, (stream: ClientHttp2Stream) => stream.end(), 'UNIMPLEMENTED'],
] as const) {
  test(`a call that ${what} before it runs stands in the log and the metrics, once`, async () => {
    await using held = await startHeld({})
    const session = await http2To(held.rig.socket)
    const stream = post(session, headers)
    // Its headers have come then.
    await promisify(session.ping.bind(session))()
    ask(stream)
    await until('it is told of', () => held.rig.records.length > 0)
    await held.rig.listening[Symbol.asyncDispose]()
    assert.deepEqual(
      held.rig.records.map(record => [record.method, record.caller, status[record.code]]),
      [['Echo', 'unix', code]],
    )
    assert.equal(refusedLines(held.rig).length, 1)
    assert.match(refusedLines(held.rig)[0] ?? '', new RegExp(`"method":"Echo".*"code":"${code}"`))
    session.destroy()
  })
}

test('at a deadline that passes before a call runs its client has our reason', async () => {
  await using held = await startHeld({})
  const session = await http2To(held.rig.socket)
  const stream = post(session, { 'grpc-timeout': '50m' })
  const [headers] = (await once(stream.resume(), 'response')) as [Readonly<Record<string, unknown>>]
  assert.equal(headers['grpc-status'], String(status.DEADLINE_EXCEEDED))
  const details = Status.decode(Buffer.from(String(headers['grpc-status-details-bin']), 'base64')).details
  assert.equal(ErrorInfo.decode(details[0]?.value ?? Buffer.alloc(0)).reason, 'DEADLINE_EXCEEDED')
  session.destroy()
})

test('of calls that are reset as soon as they are opened each is counted', async () => {
  await using held = await startHeld({})
  const client = connect(held.rig.socket)
  const gone = new Promise<void>(resolve => client.on('error', () => {}).once('close', () => resolve()))
  client.resume().write(Buffer.concat([greeting, ...Array.from({ length: 50 }, (_, i) => resetCall(2 * i + 1))]))
  await until('all are counted', () => held.rig.records.length === 50)
  assert.deepEqual([...new Set(held.rig.records.map(({ code }) => status[code]))], ['CANCELLED'])
  await until('all are told of', () => told(refusedLines(held.rig)) === 50)
  client.destroy()
  await gone
})

for (const [what, piece, count, ms] of [
  ['is no call', (id: number) => rawFrame('headers', 5, id, callBlock('/test.Echo/Nothing')), 300, 1],
  // Nearly as many as HTTP/2 takes at once.
  ['is taken back as soon as it is sent', resetCall, 900, 0.25],
] as const) {
  test(`after a request that ${what} its caller rests for ${ms} ms`, async () => {
    await using held = await startHeld({})
    const call = Buffer.concat([
      rawFrame('headers', 4, 1_801, callBlock(echoService.echo.path)),
      rawFrame('data', 1, 1_801, frame(0, Buffer.from('now'))),
    ])
    const client = connect(held.rig.socket)
    const gone = new Promise<void>(resolve => client.on('error', () => {}).once('close', () => resolve()))
    const beganMs = performance.now()
    // One read of the socket brings all of it.
    client.resume().write(Buffer.concat([greeting, ...Array.from({ length: count }, (_, i) => piece(2 * i + 1)), call]))
    await until('the call behind them is answered', () => held.rig.records.some(({ code }) => code === status.OK))
    const tookMs = performance.now() - beganMs
    assert(tookMs >= count * ms, `the call behind ${count} of them was answered after ${tookMs} ms`)
    client.destroy()
    await gone
  })
}

test('a defect ends the connection that met it, which the log tells, and no other', async () => {
  await using rig = await startRig(
    (server, calls) =>
      server.addService({ echo: echoService.echo }, { echo: calls.unary(async (request: string) => request) }),
    { onCall: ({ method }) => assert.equal(method, 'Echo') },
  )
  const [session, other] = [await http2To(rig.socket), await http2To(rig.socket)]
  const gone = once(session, 'close')
  post(session, {}, '/test.Echo/Nothing').end()
  await gone
  const lines = rig.lines.map(line => JSON.stringify(line)).filter(line => line.includes('ended by a defect'))
  assert.equal(lines.length, 1)
  assert.match(lines[0] ?? '', /"level":50.*"caller":"unix".*"type":"AssertionError"/)
  const stream = post(other)
  stream.end(frame(0, Buffer.from('now')))
  assert.equal(await grpcStatus(stream), 'OK')
  other.destroy()
})

test('the messages of streams have their turns too, and are all heard', async () => {
  const { path, ...carried } = echoService.echo
  const ask = { ...carried, path: '/test.Echo/Ask', requestStream: true, responseStream: true } as const
  let inTurn = 0
  const perTurn: number[] = []
  const heard: handleBidiStreamingCall<string, string> = stream => {
    stream.on('data', () => {
      if (inTurn++ > 0) return
      setImmediate(() => {
        perTurn.push(inTurn)
        inTurn = 0
      })
    })
    stream.on('end', () => stream.end())
  }
  await using rig = await startRig(server => server.addService({ ask }, { ask: heard }))
  const codes = await Promise.all(
    Array.from({ length: 200 }, async () => {
      const stream = rig.client.makeBidiStreamRequest(
        ask.path,
        ask.requestSerialize,
        ask.responseDeserialize,
        new Metadata(),
      )
      const code = new Promise<status>(resolve =>
        stream
          .resume()
          .on('error', () => {})
          .on('status', sent => resolve(sent.code)),
      )
      for (let i = 0; i < 5; i++) stream.write('now')
      stream.end()
      return await code
    }),
  )
  assert.deepEqual([...new Set(codes)], [status.OK])
  assert.equal(
    perTurn.reduce((sum, messages) => sum + messages, 0),
    1_000,
  )
  assert(Math.max(...perTurn) <= 40, `${Math.max(...perTurn)} messages in one turn`)
})

test('a request whose rest the server does not read yet is not too slow', async () => {
  const busyMs = 2
  const rig = await startRig(
    (server, calls) =>
      server.addService(
        { echo: echoService.echo },
        {
          echo: calls.unary<string, string>(async request => {
            const until = performance.now() + busyMs
            while (performance.now() < until);
            return request
          }),
        },
      ),
    { limits: { transferMs: 200 } },
  )
  await using _rig = rig
  const call = (id: number) => rawFrame('headers', 4, id, callBlock(echoService.echo.path))
  const body = (id: number, bytes: number) => rawFrame('data', 1, id, frame(0, Buffer.alloc(bytes, 'x')))
  // One read of the socket does not bring its end, and the turns of the others take longer than a request may.
  const others = Array.from({ length: 400 }, (_, i) => Buffer.concat([call(2 * i + 3), body(2 * i + 3, 250)]))
  const client = connect(rig.socket)
  const gone = new Promise<void>(resolve => client.on('error', () => {}).once('close', () => resolve()))
  client.resume().write(Buffer.concat([greeting, call(1), ...others, body(1, 3)]))
  await until('all are answered', () => rig.records.length === 401)
  assert.deepEqual([...new Set(rig.records.map(({ code }) => status[code]))], ['OK'])
  client.destroy()
  await gone
})

test('a request that has come and waits to be decoded is not too slow', async () => {
  await using rig = await startRig(
    (server, calls) =>
      server.addService({ echo: slowEcho(4) }, { echo: calls.unary(async (request: string) => request) }),
    { limits: { transferMs: 160 } },
  )
  const session = await http2To(rig.socket)
  const streams = Array.from({ length: 150 }, () => post(session))
  for (const stream of streams) stream.end(frame(0, Buffer.from('now')))
  assert.deepEqual([...new Set(await Promise.all(streams.map(grpcStatus)))], ['OK'])
  session.destroy()
})

test('a request that does not arrive ends in time, and so does its place', async () => {
  await using held = await startHeld({ callsPerConnection: 1, transferMs: 1_000 })
  const session = await http2To(held.rig.socket)
  const stream = post(session)
  stream.write(frame(0, Buffer.from('now')).subarray(0, 6))
  assert.equal(await grpcStatus(stream), 'DEADLINE_EXCEEDED')
  const next = post(session)
  next.end(frame(0, Buffer.from('now')))
  assert.equal(await grpcStatus(next), 'OK')
  session.destroy()
})

test('a client that does not take its answer is cut off, and others are not', async () => {
  await using held = await startHeld({ transferMs: 1_500, messageBytes: 4_000_000 })
  const session = await http2To(held.rig.socket)
  // Larger than the window that HTTP/2 begins with (RFC 9113 §6.9.2); the answer is as large.
  held.release()
  const body = Buffer.alloc(300_000, 'x')
  const head = Buffer.alloc(5)
  head.writeUInt32BE(body.length, 1)
  const stream = post(session)
  stream.end(Buffer.concat([head, body]))
  const cut = once(session, 'close')
  assert.equal((await echo(held.rig.client, 'now').reply).code, status.OK)
  await cut
  assert.equal((await echo(held.rig.client, 'now').reply).code, status.OK)
})

test('a connection that is dead is closed, one that answers is not', async () => {
  await using held = await startHeld({ keepaliveMs: 50, keepaliveTimeoutMs: 3_000 })
  const alive = await http2To(held.rig.socket)
  const dead = connect(held.rig.socket)
  // The preface and empty SETTINGS (RFC 9113 §3.4, §6.5), and after that nothing: no PING is answered.
  dead.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])]))
  await once(dead.resume(), 'close')
  const stream = post(alive)
  stream.end(frame(0, Buffer.from('now')))
  assert.equal(await grpcStatus(stream), 'OK')
  alive.destroy()
})

test('a header that grpc-js does not take is passed over, and stands nowhere but in the request', async context => {
  const said = context.mock.method(console, 'error', () => {})
  await using held = await startHeld({})
  const session = await http2To(held.rig.socket)
  // C1's CSI, which terminals take for an escape.
  const stream = post(session, { 'user-agent': 'x\u009b2J' })
  stream.end(frame(0, Buffer.from('now')))
  assert.equal(await grpcStatus(stream), 'OK')
  assert.deepEqual(
    said.mock.calls.map(call => call.arguments),
    [],
  )
  session.destroy()
})

test('headers of a megabyte are refused, and others are served', async () => {
  await using held = await startHeld({})
  const session = await http2To(held.rig.socket)
  const stream = post(session, { 'x-padding': 'y'.repeat(1_000_000) })
  stream.end(frame(0, Buffer.from('now')))
  assert.match(await grpcStatus(stream), /^reset /)
  assert.equal((await echo(held.rig.client, 'now').reply).code, status.OK)
  session.destroy()
})

test('streams opened and reset at once leave no place taken', async () => {
  await using held = await startHeld({ callsPerConnection: 2 })
  const session = await http2To(held.rig.socket)
  for (let i = 0; i < 200; i++) post(session).close(constants.NGHTTP2_CANCEL)
  await until('a call has a place', async () => {
    if (session.destroyed) return true
    const stream = post(session)
    stream.end(frame(0, Buffer.from('now')))
    return (await grpcStatus(stream)) === 'OK'
  })
  assert.equal((await echo(held.rig.client, 'now').reply).code, status.OK)
  assert.equal(held.rig.calls.inFlight, 0)
  session.destroy()
})
