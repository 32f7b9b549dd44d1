import { constants, type IncomingHttpHeaders, type OutgoingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import { Duplex } from 'node:stream'
import { type Server, status } from '@grpc/grpc-js'

/** A request that is no call of ours. */
export interface Stray {
  /** As a gRPC client understands the answer. */
  readonly code: status
  readonly message: string
  answer(): void
}

interface Answer extends Pick<Stray, 'code' | 'message'> {
  readonly headers: OutgoingHttpHeaders
}

const unknown: Answer = {
  code: status.UNIMPLEMENTED,
  message: 'a method that is not served',
  headers: { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': status.UNIMPLEMENTED },
}
// As gRPC over HTTP/2 has it.
const foreign: Answer = {
  code: status.UNKNOWN,
  message: 'a request that is no gRPC',
  headers: { ':status': constants.HTTP_STATUS_UNSUPPORTED_MEDIA_TYPE },
}

const tell = Symbol('stray')

/** Has `onStray` say when each request that {@link endStrays} ends is answered, of what HTTP/2 has for a connection. */
export function whenStray(connection: Duplex, onStray: (stray: Stray) => void): void {
  Reflect.set(connection, tell, onStray)
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
    // Around a stream that is not the kernel's own HTTP/2 has a socket that shows it.
    const connection: unknown = Reflect.get(stream.session?.socket ?? {}, 'stream')
    const onStray: unknown = connection instanceof Duplex ? Reflect.get(connection, tell) : undefined
    const stray: Stray = { ...answer, answer: () => end(stream, answer.headers) }
    if (typeof onStray === 'function') Reflect.apply(onStray, undefined, [stray])
    return false
  })
}

function end(stream: ServerHttp2Stream, headers: OutgoingHttpHeaders): void {
  if (stream.destroyed) return
  stream.respond(headers, { endStream: true })
  setImmediate(() => stream.close(constants.NGHTTP2_NO_ERROR))
}

function answerTo(headers: IncomingHttpHeaders, handlers: ReadonlyMap<unknown, unknown>): Answer | undefined {
  if (headers['content-type']?.startsWith('application/grpc') !== true) return foreign
  return handlers.has(headers[':path']) ? undefined : unknown
}
