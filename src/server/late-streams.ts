import { EventEmitter } from 'node:events'
import type { ServerHttp2Session } from 'node:http2'
import type { Server } from '@grpc/grpc-js'

/**
 * Has each session of HTTP/2 take streams that begin after it was told to close, until all are over. Node.js resets such a
 * stream while its headers are still being read, and nghttp2 goes on with what that has freed: any client that says goodbye
 * and then asks could end the process. A client that has had our own goodbye is refused by nghttp2 itself.
 */
export function takeLateStreams(server: Server): void {
  const create: unknown = Reflect.get(server, 'createHttp2Server')
  if (typeof create !== 'function') throw new Error('grpc-js has changed')
  Reflect.set(server, 'createHttp2Server', (...args: unknown[]) => {
    const http2: unknown = Reflect.apply(create, server, args)
    if (http2 instanceof EventEmitter) http2.prependListener('session', seemOpen)
    return http2
  })
}

/** Only what ends a session when its last stream is over sees that it is to close. */
function seemOpen(session: ServerHttp2Session): void {
  const prototype: unknown = Object.getPrototypeOf(Object.getPrototypeOf(session))
  if (!isObject(prototype)) return
  const isClosed = Object.getOwnPropertyDescriptor(prototype, 'closed')?.get
  const endIfOver = Object.getOwnPropertySymbols(prototype).find(({ description }) => description === 'kMaybeDestroy')
  const handle = Object.getOwnPropertySymbols(session).find(({ description }) => description === 'kHandle')
  const end: unknown = endIfOver && Reflect.get(prototype, endIfOver)
  const native: unknown = handle && Reflect.get(session, handle)
  // A test knows.
  if (isClosed === undefined || endIfOver === undefined || typeof end !== 'function' || !isObject(native)) return
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
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}
