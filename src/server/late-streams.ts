import { EventEmitter } from 'node:events'
import type { ServerHttp2Session } from 'node:http2'
import type { Server } from '@grpc/grpc-js'
import type { Logger } from 'pino'
import { isRecord } from '../lib/json-rpc.js'

/**
 * Has each session of HTTP/2 take streams that begin after it was told to close, until all are over. Node.js resets such a
 * stream while its headers are still being read, and nghttp2 goes on with what that has freed: any client that says goodbye
 * and then asks could end the process. A client that has had our own goodbye is refused by nghttp2 itself. Where Node.js has
 * become another the log says so, once there is a session to tell by.
 */
export function takeLateStreams(server: Server, log: Logger): void {
  const create: unknown = Reflect.get(server, 'createHttp2Server')
  if (typeof create !== 'function') throw new Error('grpc-js has changed')
  let isTold = false
  const onSession = (session: ServerHttp2Session) => {
    if (seemOpen(session) || isTold) return
    isTold = true
    log.warn(
      { node: process.version },
      'clients that ask after a goodbye may harm the process: its Node.js is not known',
    )
  }
  Reflect.set(server, 'createHttp2Server', (...args: unknown[]) => {
    const http2: unknown = Reflect.apply(create, server, args)
    if (http2 instanceof EventEmitter) http2.prependListener('session', onSession)
    return http2
  })
}

/**
 * Only what ends a session when its last stream is over sees that it is to close. False: Node.js calls these things otherwise, and
 * the session is left as it is.
 */
function seemOpen(session: ServerHttp2Session): boolean {
  const prototype: unknown = Object.getPrototypeOf(Object.getPrototypeOf(session))
  if (!isRecord(prototype)) return false
  const isClosed = Object.getOwnPropertyDescriptor(prototype, 'closed')?.get
  const endIfOver = Object.getOwnPropertySymbols(prototype).find(({ description }) => description === 'kMaybeDestroy')
  const handle = Object.getOwnPropertySymbols(session).find(({ description }) => description === 'kHandle')
  const end: unknown = endIfOver && Reflect.get(prototype, endIfOver)
  const native: unknown = handle && Reflect.get(session, handle)
  if (isClosed === undefined || endIfOver === undefined || typeof end !== 'function' || !isRecord(native)) return false
  let isEnding = false
  Object.defineProperty(session, 'closed', {
    get: () => (isEnding || session.destroyed) && isClosed.call(session) === true,
  })
  const endSeeing = (error?: unknown) => {
    isEnding = true
    try {
      Reflect.apply(end, session, [error])
    } finally {
      isEnding = false
    }
  }
  Reflect.set(session, endIfOver, endSeeing)
  Reflect.set(native, 'ongracefulclosecomplete', () => endSeeing())
  return true
}
