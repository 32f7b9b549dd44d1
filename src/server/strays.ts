import { constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { Duplex } from 'node:stream'
import { type Server, status } from '@grpc/grpc-js'

const answers = {
  unknown: { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': status.UNIMPLEMENTED },
  // As gRPC over HTTP/2 has it.
  foreign: { ':status': constants.HTTP_STATUS_UNSUPPORTED_MEDIA_TYPE },
}

const tell = Symbol('stray')

/** Has `onStray` say when each request on a connection that {@link endStrays} ends is answered. */
export function whenStray(socket: Duplex, onStray: (answer: () => void) => void): void {
  Reflect.set(socket, tell, onStray)
}

/**
 * Ends each request that is no gRPC, or of a method that is not served. grpc-js would answer them by itself, before any
 * interceptor is asked, and leave them open for as long as the client likes.
 */
export function endStrays(server: Server): void {
  const handlers: unknown = Reflect.get(server, 'handlers')
  if (!(handlers instanceof Map) || !('_verifyContentType' in server)) throw new Error('grpc-js has changed')
  Reflect.set(server, '_verifyContentType', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const answer = answerTo(headers, handlers)
    if (answer === undefined) return true
    // What HTTP/2 shows of the socket has what the socket has.
    const onStray: unknown = Reflect.get(stream.session?.socket ?? {}, tell)
    if (typeof onStray === 'function') Reflect.apply(onStray, undefined, [() => end(stream, answer)])
    return false
  })
}

function end(stream: ServerHttp2Stream, answer: OutgoingHttpHeaders): void {
  if (stream.destroyed) return
  stream.respond(answer, { endStream: true })
  setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR))
}

function answerTo(headers: IncomingHttpHeaders, handlers: ReadonlyMap<unknown, unknown>) {
  if (headers['content-type']?.startsWith('application/grpc') !== true) return answers.foreign
  return handlers.has(headers[':path']) ? undefined : answers.unknown
}
