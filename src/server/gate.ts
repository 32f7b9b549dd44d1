import type { Duplex } from 'node:stream'
import {
  experimental,
  type Metadata,
  type Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptingCallInterface,
  status,
} from '@grpc/grpc-js'
import { BridgeError } from '../bridge/problem.js'
import type { Calls, Refused } from './call.js'
import type { Caller } from './caller.js'
import { includesRole, type Role } from './door.js'
import { type Limits, Rate, Share } from './limits.js'

export interface GateOptions {
  readonly server: Server
  readonly calls: Calls
  readonly limits: Limits
  /** The role that a method takes, by its path; undefined: nobody may call it. */
  readonly roleOf: (path: string) => Role | undefined
}

/** One client's connection, with what it uses at the moment. */
interface Connection {
  readonly caller: Caller
  readonly socket: Duplex
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

/** How long a client has to close a connection that it was told to, and one that there is no place for to be told so. */
const farewellMs = 1_000
const surplusMs = 5_000

/**
 * Stands between the sockets and the server: each connection gets a server-side end of its own in grpc-js, so that every
 * call is known to be of that connection and its caller. Whether it may run is decided from its headers, before anything
 * else of it is read.
 */
export class Gate {
  readonly #options: GateOptions
  readonly #connections = new Set<Connection>()
  /** By the caller's id, those without calls, the longest idle first. */
  readonly #idle = new Map<string, Set<Connection>>()
  readonly #places: Share
  readonly #calls: Share
  readonly #streams: Share
  #surplus = 0
  /** Connections that were told to close and have not yet. */
  #parting = 0

  constructor(options: GateOptions) {
    this.#options = options
    const { connections, calls, streams } = options.limits
    this.#places = new Share(connections)
    this.#calls = new Share(calls)
    this.#streams = new Share(streams)
  }

  /** Connections that are open, those without a place included. */
  get size(): number {
    return this.#connections.size
  }

  /** Takes a connection in. Without a place for it the caller's longest idle one gives way. */
  admit(socket: Duplex, caller: Caller): void {
    const hasPlace = this.#places.take(caller.id) || (this.#makeRoom(caller.id) && this.#places.take(caller.id))
    if (!hasPlace && this.#surplus >= this.#options.limits.connections / 4) {
      socket.destroy()
      return
    }
    const injector = this.#options.server.createConnectionInjector(
      experimental.createServerCredentialsWithInterceptors(ServerCredentials.createInsecure(), [
        (method, call) => this.#intercept(connection, method, call),
      ]),
    )
    const connection: Connection = {
      caller,
      socket,
      rate: new Rate(this.#options.limits.callsPerSecond, performance.now()),
      calls: 0,
      streams: 0,
      surplus: !hasPlace,
      close: () => {
        injector.destroy()
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
      injector.destroy()
    })
    injector.injectConnection(socket)
  }

  /** Cuts every connection. */
  closeAll(): void {
    for (const { socket } of this.#connections) socket.destroy()
  }

  /** Gives a client time to close, unless so many have it that those who come in a flood would hold more than they may. */
  #part(socket: Duplex): void {
    if (socket.destroyed) return
    if (this.#parting >= this.#options.limits.connections / 4) {
      socket.destroy()
      return
    }
    this.#parting++
    socket.once('close', () => this.#parting--)
    setTimeout(() => socket.destroy(), farewellMs).unref()
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
    const { transferMs } = this.#options.limits
    this.#answerForServer(connection, method, call)
    let taken = false
    let timer: NodeJS.Timeout | undefined
    const expectTaken = () => {
      clearTimeout(timer)
      if (taken) timer = setTimeout(() => connection.socket.destroy(), transferMs)
    }
    return new ServerInterceptingCall(call, {
      start: next =>
        next({
          onReceiveMetadata: (metadata, pass) => {
            const refusal = this.#enter(connection, method)
            if (refusal !== undefined) {
              this.#refuse(connection, method, call, refusal)
              return
            }
            taken = true
            if (!method.requestStream) {
              timer = setTimeout(() => this.#refuse(connection, method, call, tooSlow()), transferMs)
            }
            this.#options.calls.identify(metadata, connection.caller)
            pass(metadata)
          },
          onReceiveHalfClose: pass => {
            clearTimeout(timer)
            pass()
          },
          // Of every call that began, however it ends, once the last of its answer is sent.
          onCancel: () => {
            clearTimeout(timer)
            if (taken) this.#exit(connection, method)
            taken = false
          },
        }),
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

  /** Counts a call in, or tells why it may not run. */
  #enter(connection: Connection, { path, responseStream }: Method): BridgeError | undefined {
    const { limits, roleOf } = this.#options
    const { caller } = connection
    if (connection.surplus) return exhausted('too many connections')
    if (!connection.rate.take(performance.now())) return exhausted('too many calls a second on this connection')
    if (caller.role === undefined) return unauthenticated()
    const needed = roleOf(path)
    if (needed === undefined || !includesRole(caller.role, needed)) return notPermitted()
    const [own, most, all] = responseStream
      ? [connection.streams, limits.streamsPerConnection, this.#streams]
      : [connection.calls, limits.callsPerConnection, this.#calls]
    if (own >= most) return exhausted(`${most} at once are all that one connection may have`)
    if (!all.take(caller.id)) return exhausted('too much at once')
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

  #refuse(connection: Connection, method: Method, call: ServerInterceptingCallInterface, error: BridgeError): void {
    const { code, message, metadata } = this.#options.calls.refuse(refusedCall(connection, method), error)
    call.sendStatus({ code, details: message, metadata })
  }

  /**
   * What grpc-js says by itself of a request that it cannot read reaches only this method of the innermost call: it gets
   * our code and details, so that INTERNAL is left to defects.
   */
  #answerForServer(connection: Connection, method: Method, call: ServerInterceptingCallInterface): void {
    const send = call.sendStatus.bind(call)
    call.sendStatus = sent => {
      const error = complaint(sent)
      if (error === undefined) {
        send(sent)
        return
      }
      const { code, message, metadata } = this.#options.calls.refuse(refusedCall(connection, method), error)
      send({ code, details: message, metadata })
    }
  }
}

function refusedCall({ caller }: Connection, { path, responseStream }: Method): Refused {
  return { kind: responseStream ? 'stream' : 'unary', path, caller }
}

type SentStatus = Parameters<ServerInterceptingCallInterface['sendStatus']>[0]

function complaint({ code, details, metadata }: SentStatus): BridgeError | undefined {
  if (isOurs(metadata)) return undefined
  if (code === status.RESOURCE_EXHAUSTED) return exhausted('the message is larger than the server takes')
  if (code !== status.INTERNAL || !unreadable.some(beginning => details.startsWith(beginning))) return undefined
  const message = 'the request is not an encoded message of its type'
  return new BridgeError({ kind: 'invalid', reason: 'INVALID_FIELD', message, violations: [] })
}

function isOurs(metadata: Metadata | null | undefined): boolean {
  return (metadata?.get('grpc-status-details-bin').length ?? 0) > 0
}

/** grpc-js, server-interceptors.ts. */
const unreadable = ['Error deserializing request', 'Failed to decompress message', 'Invalid grpc-timeout value']

function exhausted(message: string): BridgeError {
  return new BridgeError({ kind: 'exhausted', reason: 'EXHAUSTED', message })
}

function tooSlow(): BridgeError {
  return new BridgeError({
    kind: 'deadline',
    reason: 'DEADLINE_EXCEEDED',
    message: 'the request did not arrive in time',
  })
}

/** Whoever does not belong learns no more than that. */
function unauthenticated(): BridgeError {
  return new BridgeError({ kind: 'unauthenticated', reason: 'UNAUTHENTICATED', message: 'not authenticated' })
}

function notPermitted(): BridgeError {
  return new BridgeError({ kind: 'not-permitted', reason: 'PERMISSION_DENIED', message: 'not permitted' })
}
