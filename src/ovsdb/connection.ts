import { connect, type Socket } from 'node:net'
import type { Endpoint } from './client.js'
import { limitReached, notConnected, type OvsdbProblem, problemOf } from './errors.js'
import { encodeJson, newFramer } from './framing.js'
import { asJson, type Json } from './json.js'
import type { Limits } from './limits.js'
import type { Counters } from './readings.js'
import { type Notification, Rpc } from './rpc.js'
import { type Trace, traceLine } from './trace.js'

export interface ConnectionListener {
  readonly onConnect: () => void
  /** Bytes came. `isStillPartial`: they neither begin nor complete a message. */
  readonly onHeard: (isStillPartial: boolean) => void
  readonly onNotification: (notification: Notification) => void
  /** The connection, or the attempt, is over; told once, and nothing after it. */
  readonly onLost: (problem: OvsdbProblem) => void
}

export interface ConnectionOptions {
  readonly endpoint: Endpoint
  readonly limits: Limits
  readonly counters: Counters
  readonly trace: Trace | undefined
}

/** One attempt to reach a server, and the conversation if it succeeds. */
export interface Connection {
  readonly rpc: Rpc
  /** Handed over, and not taken by the server yet. */
  readonly unsentBytes: number
  /** Ends it: pending calls reject with `problem`, which `onLost` is told. */
  close(problem: OvsdbProblem): void
}

/** Starts to connect. What a listener throws while it takes in a message ends the connection. */
export function openConnection(options: ConnectionOptions, listener: ConnectionListener): Connection {
  const { limits, counters, trace } = options
  const socket = connectTo(options.endpoint)
  const framer = newFramer(limits)
  const rpc = new Rpc(message => send(socket, message, options), listener.onNotification, limits.maxPendingCalls)
  let isOver = false
  const close = (problem: OvsdbProblem) => {
    if (isOver) return
    isOver = true
    socket.destroy()
    rpc.lose(problem)
    listener.onLost(problem)
  }
  socket.on('connect', () => {
    if (isOver) return
    counters.connects++
    listener.onConnect()
  })
  socket.on('data', (chunk: Buffer) => {
    if (isOver) return
    counters.bytesReceived += chunk.length
    try {
      const wasMidMessage = framer.isMidMessage
      const messages = framer.push(chunk)
      listener.onHeard(wasMidMessage && messages.length === 0)
      for (const message of messages) {
        if (isOver) return
        counters.messagesReceived++
        trace?.(traceLine('<', encodeJson(asJson(message))))
        rpc.receive(message)
      }
    } catch (error) {
      close(problemOf(error))
    }
  })
  socket.on('error', error => close(problemOf(error)))
  socket.on('close', () => close(notConnected('the server closed the connection').problem))
  return {
    rpc,
    get unsentBytes() {
      return socket.writableLength
    },
    close,
  }
}

function send(socket: Socket, message: Json, { limits, counters, trace }: ConnectionOptions): void {
  const text = encodeJson(message)
  const bytes = Buffer.byteLength(text)
  if (socket.writableLength + bytes > limits.maxUnsentBytes)
    throw limitReached('maxUnsentBytes', `the server does not read: ${socket.writableLength} bytes wait for it`)
  counters.messagesSent++
  counters.bytesSent += bytes
  trace?.(traceLine('>', text))
  socket.write(text)
}

function connectTo(endpoint: Endpoint): Socket {
  const { kind } = endpoint
  const socket = kind === 'unix' ? connect(endpoint.path) : connect({ host: endpoint.host, port: endpoint.port })
  return socket.setNoDelay(true)
}
