import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, constants } from 'node:http2'
import { createConnection } from 'node:net'
import { test } from 'node:test'
import { setImmediate as immediate, setTimeout as wait } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Metadata, status } from '@grpc/grpc-js'
import { BridgeError, invalid } from '../../src/bridge/problem.js'
import { BadRequest, ErrorInfo } from '../../src/gen/google/rpc/error_details.js'
import { Status } from '../../src/gen/google/rpc/status.js'
import { Aborted, raceAbort } from '../../src/lib/abort.js'
import { type Call, type CallsOptions, type UnaryHandler, type UnaryOptions } from '../../src/server/call.js'
import { deferred, echo, echoService, type Reply, type Rig, slowEcho, startRig } from '../support/server-rig.js'
import { until } from '../support/until.js'

function serveEcho(
  handler: UnaryHandler<string, string>,
  options: Partial<CallsOptions> & { readonly unary?: UnaryOptions<string> } = {},
): Promise<Rig> {
  return startRig(
    (server, calls) => server.addService({ echo: echoService.echo }, { echo: calls.unary(handler, options.unary) }),
    options,
  )
}

/** A handler that only its signal ends, and what ended it. */
function waitForSignal() {
  const started = deferred<void>()
  const ended = deferred<unknown>()
  const handler: UnaryHandler<string, string> = async (_request, call) => {
    started.resolve()
    try {
      return await raceAbort(new Promise<string>(() => {}), call.signal)
    } catch (error) {
      ended.resolve(error)
      throw error
    }
  }
  return { handler, started: started.promise, ended: ended.promise }
}

function details(reply: Reply): Status {
  const [bytes] = reply.trailers?.get('grpc-status-details-bin') ?? []
  assert(Buffer.isBuffer(bytes))
  return Status.decode(bytes)
}

function errorInfo(reply: Reply): ErrorInfo {
  const any = details(reply).details.find(({ typeUrl }) => typeUrl === 'type.googleapis.com/google.rpc.ErrorInfo')
  assert(any)
  return ErrorInfo.decode(any.value)
}

test('a handler answers, and its call is recorded and logged once', async () => {
  await using rig = await serveEcho(async request => `${request}!`)
  const reply = await echo(rig.client, 'hello').reply
  assert.deepEqual({ code: reply.code, text: reply.text }, { code: status.OK, text: 'hello!' })
  assert.deepEqual(
    rig.records.map(({ method, code, reason }) => ({ method, code, reason })),
    [{ method: 'Echo', code: status.OK, reason: undefined }],
  )
  assert.equal(rig.lines.length, 1)
  assert.match(JSON.stringify(rig.lines[0]), /"method":"Echo","code":"OK","durationMs":/)
})

test('a handler learns who calls what, and the log the user agent', async () => {
  await using rig = await serveEcho(async (_request, call) => call.caller)
  assert.equal((await echo(rig.client, 'x').reply).text, 'Echo by unix')
  assert.match(JSON.stringify(rig.lines), /"caller":"unix","agent":"grpc-node-js\/\d/)
})

test('what an audited call asks for stands in its line', async () => {
  await using rig = await startRig(
    (server, calls) =>
      server.addService(
        { echo: { ...echoService.echo, requestDeserialize: (bytes: Buffer) => ({ tap: bytes.toString(), vlan: 0 }) } },
        { echo: calls.unary(async () => 'done') },
      ),
    { isAudited: () => true },
  )
  await echo(rig.client, 'vm1').reply
  assert.match(JSON.stringify(rig.lines[0]), /"audit":\{"tap":"vm1"\}/)
})

test('the log names the fields of bad input, and keeps what stood in them to itself', async () => {
  await using rig = await serveEcho(async () => {
    throw invalid([{ field: 'settings[0]', description: 'got "hunter2"' }])
  })
  const reply = await echo(rig.client, 'x').reply
  assert.match(reply.text, /hunter2/)
  assert.match(JSON.stringify(rig.lines[0]), /"reason":"INVALID_FIELD","badFields":\["settings\[0\]"\]/)
  assert.doesNotMatch(JSON.stringify(rig.lines[0]), /hunter2/)
})

test('a BridgeError becomes its status with ErrorInfo', async () => {
  await using rig = await serveEcho(async () => {
    throw new BridgeError({
      kind: 'unsupported',
      reason: 'UNSUPPORTED',
      message: 'no netem here',
      metadata: { remedy: 'modprobe sch_netem' },
    })
  })
  const reply = await echo(rig.client, 'x').reply
  assert.deepEqual([reply.code, reply.text], [status.FAILED_PRECONDITION, 'no netem here'])
  assert.deepEqual(errorInfo(reply), {
    reason: 'UNSUPPORTED',
    domain: 'ovs-bridged',
    metadata: { remedy: 'modprobe sch_netem' },
  })
})

test('bad input names each field in BadRequest', async () => {
  const violations = [
    { field: 'vlan', description: 'is 4096' },
    { field: 'mac', description: 'is all zeroes' },
  ]
  await using rig = await serveEcho(async () => {
    throw invalid(violations)
  })
  const reply = await echo(rig.client, 'x').reply
  assert.equal(reply.code, status.INVALID_ARGUMENT)
  const any = details(reply).details.find(({ typeUrl }) => typeUrl === 'type.googleapis.com/google.rpc.BadRequest')
  assert(any)
  assert.deepEqual(
    BadRequest.decode(any.value).fieldViolations.map(({ field, description }) => ({ field, description })),
    violations,
  )
})

test('thousands of violations still fit into the trailers', async () => {
  await using rig = await serveEcho(async () => {
    throw invalid(Array.from({ length: 5_000 }, (_, i) => ({ field: `taps[${i}].mac`, description: 'ü'.repeat(500) })))
  })
  assert.equal((await echo(rig.client, 'x').reply).code, status.INVALID_ARGUMENT)
})

for (const character of ['x', 'ü', '漢', '"']) {
  test(`of long texts of ${character} so much is told as a client takes in headers by default`, async () => {
    const text = character.repeat(5_000)
    await using rig = await serveEcho(async () => {
      throw invalid(Array.from({ length: 50 }, (_, i) => ({ field: `settings[${i}].${text}`, description: text })))
    })
    const { text: message, trailers } = await echo(rig.client, 'x').reply
    const details = trailers?.get('grpc-status-details-bin')[0] ?? ''
    const bytes = encodeURI(message).length + Buffer.from(details).toString('base64').length
    assert(bytes > 4_000 && bytes < 7_800, `${bytes} bytes`)
    assert(message.includes(character.repeat(50)) && message.endsWith('…'), message)
  })
}

test('a message with a lone surrogate reaches the client', async () => {
  await using rig = await serveEcho(async () => {
    throw new BridgeError({ kind: 'not-found', reason: 'TAP_NOT_FOUND', message: 'no tap \ud800' })
  })
  assert.equal((await echo(rig.client, 'x').reply).text, 'no tap \ufffd')
})

test('a defect is told by an id that the log has with the cause', async () => {
  await using rig = await serveEcho(async () => {
    throw new TypeError('secret of the house')
  })
  const reply = await echo(rig.client, 'x').reply
  assert.equal(reply.code, status.INTERNAL)
  assert.doesNotMatch(reply.text, /secret/)
  const { reason, metadata } = errorInfo(reply)
  const incident = metadata['incident'] ?? ''
  assert.equal(reason, 'INTERNAL')
  assert.match(reply.text, new RegExp(incident))
  const log = JSON.stringify(rig.lines)
  assert.match(log, new RegExp(incident))
  assert.match(log, /secret of the house/)
})

test("a client's cancel ends the handler", async () => {
  const { handler, started, ended } = waitForSignal()
  await using rig = await serveEcho(handler)
  const call = echo(rig.client, 'x')
  await started
  call.cancel()
  const error = await ended
  assert(error instanceof Aborted)
  assert.equal(error.why, 'cancelled')
  await until('the call is recorded', () => rig.records.length === 1)
  assert.equal(rig.records[0]?.code, status.CANCELLED)
})

test("a client's deadline ends the handler, as a deadline and not as a cancel", async () => {
  const { handler, ended } = waitForSignal()
  await using rig = await serveEcho(handler)
  const { code } = await echo(rig.client, 'x', Date.now() + 2_000).reply
  assert.equal(code, status.DEADLINE_EXCEEDED)
  const error = await ended
  assert(error instanceof Aborted)
  assert.equal(error.why, 'deadline')
  await until('the call is recorded', () => rig.records.length === 1)
  assert.equal(rig.records[0]?.code, status.DEADLINE_EXCEEDED)
})

test('a deadline counts as one though the service was busy when the call came, and a cancel as a cancel', async () => {
  await using rig = await serveEcho(waitForSignal().handler)
  const session = connect('http://localhost', { createConnection: () => createConnection(rig.socket) })
  await once(session, 'connect')
  // Nothing else is on its way then.
  await promisify(session.ping.bind(session))()
  const request = async (timeoutMs: number) => {
    const headers = { ':method': 'POST', ':path': echoService.echo.path, 'content-type': 'application/grpc' }
    const stream = session.request({ ...headers, te: 'trailers', 'grpc-timeout': `${timeoutMs}m` })
    stream.on('error', () => {}).end(Buffer.from('\0\0\0\0\x01x'))
    const startedMs = Date.now()
    // Sent by then, and not read yet.
    await immediate()
    while (Date.now() < startedMs + 60);
    await until('it runs', () => rig.calls.inFlight === 1)
    await wait(startedMs + 200 - Date.now())
    stream.close(constants.NGHTTP2_CANCEL)
    await until('it is over', () => rig.calls.inFlight === 0)
  }
  await request(200)
  await request(2_000)
  await until('both are recorded', () => rig.records.length === 2)
  assert.deepEqual(
    rig.records.map(({ code }) => code),
    [status.DEADLINE_EXCEEDED, status.CANCELLED],
  )
  session.destroy()
})

test('a call without a deadline gets the default one, with the reason', async () => {
  const { handler } = waitForSignal()
  await using rig = await serveEcho(handler, { defaultTimeoutMs: 40 })
  const reply = await echo(rig.client, 'x').reply
  assert.equal(reply.code, status.DEADLINE_EXCEEDED)
  assert.equal(errorInfo(reply).reason, 'DEADLINE_EXCEEDED')
})

test("a client's deadline may be longer than the default", async () => {
  await using rig = await serveEcho(
    (_request, call) =>
      new Promise((resolve, reject) => {
        call.signal.addEventListener('abort', () => reject(call.signal.reason))
        setTimeout(() => resolve('late'), 60)
      }),
    { defaultTimeoutMs: 20 },
  )
  assert.equal((await echo(rig.client, 'x', Date.now() + 5_000).reply).text, 'late')
})

test('a call that is about many taps has 20 ms more for each', async () => {
  const { handler } = waitForSignal()
  await using rig = await serveEcho(handler, { defaultTimeoutMs: 20, unary: { taps: request => Number(request) } })
  assert.equal((await echo(rig.client, '5').reply).code, status.DEADLINE_EXCEEDED)
  await until('it is recorded', () => rig.records.length === 1)
  const durationMs = rig.records[0]?.durationMs ?? 0
  assert(durationMs > 110, `${durationMs} ms`)
})

test('a handler that ignores its signal does not hold its caller: the outcome is unknown', async () => {
  const finish = deferred<string>()
  await using rig = await serveEcho(() => finish.promise, { defaultTimeoutMs: 20, unwindMs: 20 })
  const reply = await echo(rig.client, 'x').reply
  assert.equal(reply.code, status.UNKNOWN)
  assert.equal(errorInfo(reply).reason, 'OUTCOME_UNKNOWN')
  assert.equal(rig.calls.inFlight, 1)
  finish.resolve('')
  await until('the handler has settled', () => rig.calls.inFlight === 0)
})

test('an outcome that is unknown at the deadline is not told as a deadline', async () => {
  await using rig = await serveEcho(
    async (_request, call) => {
      await raceAbort(new Promise(() => {}), call.signal).catch(() => undefined)
      throw new BridgeError({ kind: 'outcome-unknown', reason: 'OUTCOME_UNKNOWN', message: 'sent, not answered' })
    },
    { defaultTimeoutMs: 20 },
  )
  const reply = await echo(rig.client, 'x').reply
  assert.deepEqual([reply.code, reply.text], [status.UNKNOWN, 'sent, not answered'])
})

test("Node's own AbortError is told as what fired the signal", async () => {
  await using rig = await serveEcho(async (_request, call) => wait(60_000, 'late', { signal: call.signal }), {
    defaultTimeoutMs: 20,
  })
  assert.equal((await echo(rig.client, 'x').reply).code, status.DEADLINE_EXCEEDED)
})

test('the signal of a call that was answered does not fire afterwards', async () => {
  const seen: Call[] = []
  await using rig = await serveEcho(async (_request, call) => {
    seen.push(call)
    return ''
  })
  await echo(rig.client, 'x').reply
  // Its stream is closed by the time that the next one is answered.
  await echo(rig.client, 'x').reply
  assert.equal(seen[0]?.signal.aborted, false)
})

test('calls cancelled at once leave nothing running', async () => {
  await using rig = await serveEcho(waitForSignal().handler, { defaultTimeoutMs: 60_000 })
  const calls = Array.from({ length: 300 }, () => echo(rig.client, 'x'))
  for (const [i, call] of calls.entries()) setTimeout(() => call.cancel(), i % 7)
  await Promise.all(calls.map(({ reply }) => reply))
  await until('all handlers have ended', () => rig.calls.inFlight === 0)
})

test('stopping lets a running call finish and its answer arrive', async () => {
  const started = deferred<void>()
  const finish = deferred<string>()
  await using rig = await serveEcho(async () => {
    started.resolve()
    return await finish.promise
  })
  const { reply } = echo(rig.client, 'x')
  await started.promise
  const stopped = rig.listening[Symbol.asyncDispose]()
  finish.resolve('done')
  assert.equal((await reply).text, 'done')
  await stopped
})

/** Requests of which the server has the headers and no more. */
async function begun(rig: Rig, count: number, path: string = echoService.echo.path) {
  const session = connect('http://localhost', { createConnection: () => createConnection(rig.socket) })
  session.on('error', () => {})
  await once(session, 'connect')
  const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc' }
  const streams = Array.from({ length: count }, () => session.request(headers).on('error', () => {}))
  await promisify(session.ping.bind(session))()
  return streams
}

test('stopping lets calls that were let in come, be decoded, run and be answered, however long that takes', async () => {
  await using rig = await startRig((server, calls) =>
    server.addService({ echo: slowEcho(15) }, { echo: calls.unary(async (request: string) => request) }),
  )
  const streams = await begun(rig, 40)
  for (const stream of streams) stream.resume().end(Buffer.from('\0\0\0\0\x01x'))
  await rig.listening[Symbol.asyncDispose]()
  assert.deepEqual(
    rig.records.map(({ code }) => status[code]),
    streams.map(() => 'OK'),
  )
})

test('stopping waits no longer for a request that does not come than for a call that runs', async () => {
  await using rig = await startRig(
    (server, calls) => server.addService({ echo: echoService.echo }, { echo: calls.unary(async () => 'never') }),
    { drainTimeoutMs: 20 },
  )
  const [stream] = await begun(rig, 1)
  stream?.write(Buffer.from([0, 0]))
  const beganMs = performance.now()
  await rig.listening[Symbol.asyncDispose]()
  const tookMs = performance.now() - beganMs
  // Else it would be the 5 s in which handlers may undo what they did.
  assert(tookMs < 4_000, `${tookMs} ms`)
})

for (const [path, drainTimeoutMs] of [
  [echoService.echo.path, 20],
  // Streams have no such time.
  [echoService.count.path, 60_000],
] as const) {
  test(`who was let in by ${path} and asks nothing hears that the service stops, which stands in the log`, async () => {
    await using rig = await startRig(
      (server, calls) =>
        server.addService(echoService, {
          echo: calls.unary(async () => 'never'),
          count: calls.serverStream(async function* () {}),
        }),
      { drainTimeoutMs },
    )
    const [stream] = await begun(rig, 1, path)
    assert(stream)
    stream.write(Buffer.from([0, 0]))
    const answer = once(stream.resume(), 'response')
    await rig.listening[Symbol.asyncDispose]()
    const [headers] = (await answer) as [Readonly<Record<string, unknown>>]
    assert.equal(headers['grpc-status'], String(status.UNAVAILABLE))
    assert.deepEqual(
      rig.records.map(({ code, reason }) => [status[code], reason]),
      [['UNAVAILABLE', 'SHUTTING_DOWN']],
    )
  })
}

test('stopping aborts what outlasts the drain, and says why', async () => {
  const { handler, started } = waitForSignal()
  await using rig = await startRig(
    (server, calls) => server.addService({ echo: echoService.echo }, { echo: calls.unary(handler) }),
    { drainTimeoutMs: 20 },
  )
  const { reply } = echo(rig.client, 'x')
  await started
  await rig.listening[Symbol.asyncDispose]()
  const told = await reply
  assert.equal(told.code, status.UNAVAILABLE)
  assert.equal(errorInfo(told).reason, 'SHUTTING_DOWN')
})

test('a call that comes while draining is refused', async () => {
  await using rig = await serveEcho(async () => 'never')
  assert.equal(await rig.calls.drain(0), 0)
  const reply = await echo(rig.client, 'x').reply
  assert.equal(reply.code, status.UNAVAILABLE)
  assert.equal(errorInfo(reply).reason, 'SHUTTING_DOWN')
})

test('a stream hands out all messages in order', async () => {
  await using rig = await startRig((server, calls) =>
    server.addService(
      { count: echoService.count },
      {
        count: calls.serverStream<string, string>(async function* (request) {
          for (let i = 0; i < Number(request); i++) yield String(i)
        }),
      },
    ),
  )
  const got: string[] = []
  for await (const message of count(rig, '2000')) got.push(String(message))
  assert.deepEqual(
    got,
    Array.from({ length: 2_000 }, (_, i) => String(i)),
  )
})

test('a stream takes no more from its source than a slow reader has room for', async () => {
  let produced = 0
  const big = 'x'.repeat(64 * 1024)
  await using rig = await startRig((server, calls) =>
    server.addService(
      { count: echoService.count },
      {
        count: calls.serverStream<string, string>(async function* () {
          for (;;) {
            produced += 1
            yield big
          }
        }),
      },
    ),
  )
  const stream = count(rig, 'x')
  // A grpc-js client that has never read takes everything in; one that has read and stopped does not.
  await new Promise(resolve => stream.once('data', resolve))
  stream.pause()
  await until('the reader holds the source up', () => rig.calls.openStreams('Count').lagMs > 500)
  assert(produced < 200, `${produced} messages were produced`)
  stream.on('error', () => {})
  stream.cancel()
  await until('the stream has ended', () => rig.calls.inFlight === 0)
})

test("a stream's failure is told like a call's", async () => {
  await using rig = await startRig((server, calls) =>
    server.addService(
      { count: echoService.count },
      {
        count: calls.serverStream<string, string>(async function* () {
          yield 'one'
          throw new BridgeError({ kind: 'not-found', reason: 'TAP_NOT_FOUND', message: 'gone' })
        }),
      },
    ),
  )
  await assert.rejects(
    async () => {
      for await (const _ of count(rig, 'x')) {
      }
    },
    { code: status.NOT_FOUND, details: 'gone' },
  )
})

test('streams end at once when the service stops', async () => {
  const started = deferred<void>()
  await using rig = await startRig(
    (server, calls) =>
      server.addService(
        { count: echoService.count },
        {
          count: calls.serverStream<string, string>(async function* (_request, call) {
            started.resolve()
            await raceAbort(new Promise(() => {}), call.signal)
            yield ''
          }),
        },
      ),
    { drainTimeoutMs: 60_000 },
  )
  const ended = new Promise<number>(resolve => {
    count(rig, 'x')
      .on('error', (error: Error & { code?: number }) => resolve(error.code ?? -1))
      .resume()
  })
  await started.promise
  const startedAt = Date.now()
  await rig.listening[Symbol.asyncDispose]()
  assert(Date.now() - startedAt < 10_000, 'the drain was waited out')
  assert.equal(await ended, status.UNAVAILABLE)
})

test('streams cancelled at once leave nothing running', async () => {
  let opened = 0
  await using rig = await startRig((server, calls) =>
    server.addService(
      { count: echoService.count },
      {
        count: calls.serverStream<string, string>(async function* (_request, call) {
          opened += 1
          yield 'x'
          await raceAbort(new Promise(() => {}), call.signal)
        }),
      },
    ),
  )
  const streams = Array.from({ length: 300 }, () => count(rig, 'x').on('error', () => {}))
  for (const [i, stream] of streams.entries()) setTimeout(() => stream.cancel(), i % 7)
  await Promise.all(streams.map(stream => new Promise(resolve => stream.resume().on('status', resolve))))
  await until(`all ${opened} streams have ended`, () => rig.calls.inFlight === 0)
})

function count(rig: Rig, request: string) {
  const { path, requestSerialize, responseDeserialize } = echoService.count
  return rig.client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, new Metadata())
}
