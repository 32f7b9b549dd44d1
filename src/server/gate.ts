import { constants } from 'node:http2'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import {
  type ConnectionInjector,
  experimental,
  type Metadata,
  type Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  type ServerListener,
} from '@grpc/grpc-js'
import type { Logger } from 'pino'
import { type Calls, hasPassed, type Refusal } from './call.js'
import type { Caller } from './caller.js'
import { decodeInTurns, expectDecodable } from './decoding.js'
import { includesRole, type Role } from './door.js'
import { Inlet } from './inlet.js'
import { takeLateStreams } from './late-streams.js'
import { type Limits, Rate, Share } from './limits.js'
import { complaint, refusals } from './refusals.js'
import type { Failure } from './status.js'
import { Strangers } from './strangers.js'
import { endStrays, type Stray, whenStray } from './strays.js'
import { callMs, resetMs, strayMs, Turns } from './turns.js'
import { Writer } from './writer.js'

export interface GateOptions {
  readonly server: Server
  readonly calls: Calls
  readonly limits: Limits
  readonly log: Logger
  /** The role that a method takes, by its path; undefined: nobody may call it. */
  readonly roleOf: (path: string) => Role | undefined
}

/** One client's connection, with what it uses at the moment. */
interface Connection {
  readonly caller: Caller
  readonly socket: Socket
  readonly inlet: Inlet
  readonly rate: Rate
  calls: number
  streams: number
  /** There was no place for it: all that it asks is refused. */
  readonly surplus: boolean
  /** Tells the client that no more calls are taken, then closes. */
  readonly close: () => void
}

/** The part of grpc-js's method definition that counts here. */
interface Method {
  readonly path: string
  readonly requestStream: boolean
  readonly responseStream: boolean
}

/** What a client asks for on one stream of HTTP/2. */
interface Request {
  readonly connection: Connection
  readonly method: Method
  readonly call: ServerInterceptingCallInterface
  /** Its handler, which tells of it when it ends, begins when all of it has come; of one that ends before that we tell. */
  progress: 'waits' | 'has begun' | 'is told of'
}

/** How long a client has to close a connection that it was told to, and one that there is no place for to be told so. */
const farewellMs = 1_000
const surplusMs = 5_000

/**
 * Stands between the sockets and the server: each connection gets a server-side end of its own in grpc-js, so that every
 * call is known to be of that connection and its caller. Whether it may run is decided from its headers, before anything
 * else of it is read.
 */
export class Gate {
  readonly strangers: Strangers
  readonly #options: GateOptions
  readonly #connections = new Set<Connection>()
  /** By the caller's id, those without calls, the longest idle first. */
  readonly #idle = new Map<string, Set<Connection>>()
  readonly #places: Share
  readonly #calls: Share
  readonly #streams: Share
  readonly #turns = new Turns()
  readonly #writer = new Writer()
  #surplus = 0
  /** Connections that were told to close and have not yet. */
  #parting = 0

  constructor(options: GateOptions) {
    this.#options = options
    const { connections, calls, streams } = options.limits
    this.#places = new Share(connections)
    this.#calls = new Share(calls)
    this.#streams = new Share(streams)
    const onDefect = (caller: string, error: unknown) => this.#tellDefect(caller, error)
    this.strangers = new Strangers({ turns: this.#turns, limits: options.limits, onDefect })
    expectDecodable()
    endStrays(options.server)
    takeLateStreams(options.server, options.log)
  }

  /** Connections that are open, those without a place included. */
  get size(): number {
    return this.#connections.size
  }

  /** Takes a connection in. Without a place for it the caller's longest idle one gives way. */
  admit(socket: Socket, caller: Caller): void {
    const hasPlace = this.#places.take(caller.id) || (this.#makeRoom(caller.id) && this.#places.take(caller.id))
    if (!hasPlace && this.#surplus >= this.#options.limits.connections / 4) {
      socket.destroy()
      return
    }
    let injector: ConnectionInjector | undefined
    const connection: Connection = {
      caller,
      socket,
      inlet: new Inlet(socket, this.#writer, work => this.#take(connection, work)),
      rate: new Rate(this.#options.limits.callsPerSecond, performance.now()),
      calls: 0,
      streams: 0,
      surplus: !hasPlace,
      close: () => {
        if (injector === undefined) socket.destroy()
        injector?.destroy()
        this.#part(socket)
      },
    }
    this.#connections.add(connection)
    if (hasPlace) this.#setIdle(connection, true)
    else {
      this.#surplus++
      setTimeout(connection.close, surplusMs).unref()
    }
    socket.once('close', () => {
      this.#leave(connection)
      injector?.destroy()
    })
    // Who connects again and again waits for itself as well.
    this.#take(connection, () => {
      if (!socket.destroyed) injector = this.#inject(connection)
    })
  }

  #inject(connection: Connection): ConnectionInjector {
    const intercept = (method: Method, call: ServerInterceptingCallInterface) =>
      this.#intercept(connection, method, call)
    const injector = this.#options.server.createConnectionInjector(
      experimental.createServerCredentialsWithInterceptors(ServerCredentials.createInsecure(), [intercept]),
    )
    whenStray(connection.inlet, stray => this.#begin(connection, () => this.#answerStray(connection, stray)))
    injector.injectConnection(connection.inlet)
    return injector
  }

  /** Cuts every connection, and all who have not become one yet. */
  closeAll(): void {
    for (const { socket } of this.#connections) socket.destroy()
    this.strangers.closeAll()
  }

  /** Gives a client time to close, unless so many have it that those who come in a flood would hold more than they may. */
  #part(socket: Socket): void {
    if (socket.destroyed) return
    if (this.#parting >= this.#options.limits.connections / 4) {
      socket.destroy()
      return
    }
    this.#parting++
    socket.once('close', () => this.#parting--)
    setTimeout(() => socket.destroy(), farewellMs).unref()
  }

  /** Does something for a connection when it is its caller's turn. A defect of ours in it ends this connection and no other. */
  #take({ caller, socket }: Connection, work: () => void): void {
    this.#turns.take(caller.id, work, error => {
      this.#tellDefect(caller.name, error)
      socket.destroy()
    })
  }

  #tellDefect(caller: string, error: unknown): void {
    this.#options.log.error({ caller, err: error }, 'connection ended by a defect')
  }

  /** Has a call begin, and be answered, when it is its caller's turn. */
  #begin(connection: Connection, begin: () => void): void {
    this.#take(connection, () => {
      this.#turns.charge(connection.caller.id, callMs)
      begin()
    })
  }

  #makeRoom(callerId: string): boolean {
    const [longestIdle] = this.#idle.get(callerId) ?? []
    if (longestIdle === undefined) return false
    this.#leave(longestIdle)
    longestIdle.close()
    return true
  }

  #leave(connection: Connection): void {
    if (!this.#connections.delete(connection)) return
    this.#setIdle(connection, false)
    if (connection.surplus) this.#surplus--
    else this.#places.giveBack(connection.caller.id)
  }

  #setIdle(connection: Connection, isIdle: boolean): void {
    const { id } = connection.caller
    const idle = this.#idle.get(id) ?? new Set()
    if (isIdle) idle.add(connection)
    else idle.delete(connection)
    if (idle.size > 0) this.#idle.set(id, idle)
    else this.#idle.delete(id)
  }

  #intercept(connection: Connection, method: Method, call: ServerInterceptingCallInterface): ServerInterceptingCall {
    const { calls, limits } = this.#options
    const request: Request = { connection, method, call, progress: 'waits' }
    this.#answerForServer(request)
    /** Of a call that is let in, until it is over. */
    let taken: Metadata | undefined
    let hasMessage = false
    let undecoded = 0
    decodeInTurns(
      call,
      work => {
        undecoded++
        this.#take(connection, () => {
          undecoded--
          work()
        })
      },
      () => taken !== undefined,
    )
    let patience: Disposable | undefined
    const expect = (onLate: () => void) => {
      patience?.[Symbol.dispose]()
      patience = whileRead(() => undecoded === 0 && !connection.inlet.isWaiting, limits.transferMs, onLate)
    }
    const expectTaken = () => {
      if (taken) expect(() => connection.socket.destroy())
    }
    const listener: ServerListener = {
      onReceiveMetadata: (metadata, pass) => {
        const refusal = this.#enter(connection, method)
        if (refusal !== undefined) {
          this.#turns.charge(connection.caller.id, callMs)
          this.#refuse(request, refusal)
          return
        }
        taken = metadata
        calls.accept(kindOf(method), metadata, connection.caller, () => this.#end(request))
        this.#begin(connection, () => {
          if (taken && method.requestStream) request.progress = 'has begun'
          else if (taken) expect(() => this.#refuse(request, refusals.tooSlow))
          pass(metadata)
        })
      },
      // Each message of a stream is work, as a call is.
      onReceiveMessage: (message, pass) => {
        hasMessage = true
        if (method.requestStream) this.#begin(connection, () => taken && pass(message))
        else pass(message)
      },
      onReceiveHalfClose: pass => {
        patience?.[Symbol.dispose]()
        if (method.requestStream) this.#take(connection, () => taken && pass())
        else {
          if (hasMessage) request.progress = 'has begun'
          pass()
        }
      },
      // Of every call that began, however it ends, once the last of its answer is sent.
      onCancel: () => {
        patience?.[Symbol.dispose]()
        if (taken) {
          this.#exit(connection, method)
          calls.leave(taken)
        }
        taken = undefined
        this.#tellIfGone(request)
      },
    }
    return new ServerInterceptingCall(call, {
      start: next => {
        next(listener)
        // One that was reset by then is passed on to nobody.
        if (!taken) this.#tellIfGone(request)
      },
      // A stream may take its time between two messages; at its end, and with the one answer of a call, nobody may.
      sendMessage: (message, pass) => {
        if (!method.responseStream) expectTaken()
        pass(message)
      },
      sendStatus: (sent, pass) => {
        expectTaken()
        pass(sent)
      },
    })
  }

  /** Its path is the client's own word, and no name of a method. */
  #answerStray({ caller }: Connection, stray: Stray): void {
    this.#options.calls.refuse({ kind: 'unary', path: '/unknown', caller }, stray)
    stray.answer()
    this.#turns.rest(caller.id, strayMs)
  }

  /** Counts a call in, or tells why it may not run. */
  #enter(connection: Connection, { path, responseStream }: Method): Failure | undefined {
    const { limits, roleOf } = this.#options
    const { caller } = connection
    if (this.#options.calls.isEnding) return refusals.shuttingDown
    if (connection.surplus) return refusals.connections
    if (!connection.rate.take(performance.now())) return refusals.rate
    if (caller.role === undefined) return refusals.unauthenticated
    const needed = roleOf(path)
    if (needed === undefined || !includesRole(caller.role, needed)) return refusals.notPermitted
    const [own, most, all] = responseStream
      ? [connection.streams, limits.streamsPerConnection, this.#streams]
      : [connection.calls, limits.callsPerConnection, this.#calls]
    if (own >= most) return refusals.connection
    if (!all.take(caller.id)) return refusals.all
    if (connection.calls + connection.streams === 0) this.#setIdle(connection, false)
    if (responseStream) connection.streams++
    else connection.calls++
    return undefined
  }

  #exit(connection: Connection, { responseStream }: Method): void {
    const { caller } = connection
    if (responseStream) {
      connection.streams--
      this.#streams.giveBack(caller.id)
    } else {
      connection.calls--
      this.#calls.giveBack(caller.id)
    }
    if (connection.calls + connection.streams === 0 && this.#connections.has(connection))
      this.#setIdle(connection, true)
  }

  #refuse(request: Request, refusal: Failure): void {
    this.#tell(request, refusal)
    this.#answer(request, refusal)
  }

  #answer({ call }: Request, { code, message, metadata }: Failure): void {
    call.sendStatus({ code, details: message, metadata })
  }

  /** Ends a request since the service does. A handler that has begun and tells of nothing, as that of health, has no line. */
  #end(request: Request): void {
    if (request.progress === 'has begun') this.#answer(request, refusals.shuttingDown)
    else this.#refuse(request, refusals.shuttingDown)
  }

  /** Has a request that ends before its handler begins stand in the log and the metrics, once. */
  #tell(request: Request, refusal: Refusal): void {
    if (request.progress === 'is told of') return
    request.progress = 'is told of'
    const { caller } = request.connection
    const { path } = request.method
    this.#options.calls.refuse({ kind: kindOf(request.method), path, caller }, refusal)
  }

  /** A client may go, or take its request back, before there is an answer. */
  #tellIfGone(request: Request): void {
    if (request.progress !== 'waits') return
    this.#turns.rest(request.connection.caller.id, resetMs)
    this.#tell(request, hasPassed(request.call.getDeadline()) ? refusals.deadline : refusals.gone)
  }

  /**
   * What grpc-js says by itself of a request that it cannot read, or at a deadline, reaches only this method of the innermost call: it
   * gets our code and details, so that INTERNAL is left to defects. It may say so of each of its messages: one request is refused once.
   */
  #answerForServer(request: Request): void {
    const { call, method } = request
    const send = call.sendStatus.bind(call)
    call.sendStatus = sent => {
      const refusal = complaint(sent)
      const isRefused = request.progress === 'waits' || (method.requestStream && refusal !== undefined)
      // HTTP/2 has a request that is reset come to its end as well.
      if (streamOf(call)?.closed === true) this.#tellIfGone(request)
      else if (isRefused) this.#tell(request, refusal ?? { code: sent.code, message: sent.details })
      if (refusal === undefined) send(sent)
      else send({ code: refusal.code, details: refusal.message, metadata: refusal.metadata })
      if (!method.requestStream) setImmediate(endRequest, call)
    }
  }
}

function kindOf({ responseStream }: Method): 'unary' | 'stream' {
  return responseStream ? 'stream' : 'unary'
}

/** Has a client send no more of a request that is answered (RFC 9113 §8.1): grpc-js would take all of it. */
function endRequest(call: ServerInterceptingCallInterface): void {
  const stream = streamOf(call)
  if (stream === undefined || stream.destroyed || stream.readableEnded) return
  const close: unknown = Reflect.get(stream, 'close')
  if (typeof close === 'function') close.call(stream, constants.NGHTTP2_NO_ERROR)
}

function streamOf(call: ServerInterceptingCallInterface): Duplex | undefined {
  const stream: unknown = Reflect.get(call, 'stream')
  return stream instanceof Duplex ? stream : undefined
}

const looks = 8

/**
 * Calls `onLate` after so long, unless disposed of before. Time in which what has come waited for its turn does not count, and of
 * time in which the thread was busy an eighth at most: who is not listened to is not slow.
 */
function whileRead(isRead: () => boolean, ms: number, onLate: () => void): Disposable {
  let left = looks
  const timer = setInterval(() => {
    if (!isRead() || --left > 0) return
    clearInterval(timer)
    onLate()
  }, ms / looks)
  return { [Symbol.dispose]: () => clearInterval(timer) }
}
