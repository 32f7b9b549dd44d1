import { connect, type Socket } from 'node:net'
import type { Endpoint } from './client.js'
import { notConnected, type OvsdbProblem, problemOf } from './errors.js'
import { encodeJson, newFramer } from './framing.js'
import { type Notification, Rpc } from './rpc.js'

export interface ConnectionListener {
  readonly onConnect: () => void
  /** Bytes came. */
  readonly onHeard: () => void
  readonly onNotification: (notification: Notification) => void
  /** The connection, or the attempt, is over; told once, and nothing after it. */
  readonly onLost: (problem: OvsdbProblem) => void
}

/** One attempt to reach a server, and the conversation if it succeeds. */
export interface Connection {
  readonly rpc: Rpc
  /** Ends it: pending calls reject with `problem`, which `onLost` is told. */
  close(problem: OvsdbProblem): void
}

/** Starts to connect. What a listener throws while it takes in a message ends the connection. */
export function openConnection(endpoint: Endpoint, listener: ConnectionListener): Connection {
  const socket = connectTo(endpoint)
  const framer = newFramer()
  const rpc = new Rpc(message => socket.write(encodeJson(message)), listener.onNotification)
  let isOver = false
  const close = (problem: OvsdbProblem) => {
    if (isOver) return
    isOver = true
    socket.destroy()
    rpc.lose(problem)
    listener.onLost(problem)
  }
  socket.on('connect', listener.onConnect)
  socket.on('data', (chunk: Buffer) => {
    if (isOver) return
    listener.onHeard()
    try {
      for (const message of framer.push(chunk)) if (!isOver) rpc.receive(message)
    } catch (error) {
      close(problemOf(error))
    }
  })
  socket.on('error', error => close(problemOf(error)))
  socket.on('close', () => close(notConnected('the server closed the connection').problem))
  return { rpc, close }
}

function connectTo(endpoint: Endpoint): Socket {
  const { kind } = endpoint
  const socket = kind === 'unix' ? connect(endpoint.path) : connect({ host: endpoint.host, port: endpoint.port })
  return socket.setNoDelay(true)
}
