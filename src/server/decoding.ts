import { PassThrough } from 'node:stream'
import { gunzipSync, inflateSync } from 'node:zlib'
import { type ServerInterceptingCallInterface, status } from '@grpc/grpc-js'
import { BaseServerInterceptingCall } from '@grpc/grpc-js/build/src/server-interceptors.js'
import { isRecord } from '../lib/json-rpc.js'
import { codeOf } from '../lib/thrown.js'

/** A message of a request in grpc-js's queue: `COMPRESSED` until it is decoded, whether it is compressed or not. */
interface Arrived {
  type: 'COMPRESSED' | 'READABLE'
  readonly compressedMessage: Buffer
  parsedMessage: unknown
}

/** What a call of grpc-js's own has beside its interface. */
interface Innermost extends ServerInterceptingCallInterface {
  readonly incomingEncoding: string
  readonly maxReceiveMessageSize: number
  readonly handler: { deserialize(bytes: Buffer): unknown }
  decompressAndMaybePush(arrived: Arrived): unknown
  maybePushNextMessage(): void
}

/** Throws where a call of grpc-js has not what {@link decodeInTurns} takes: at the start, and not with the first call. */
export function expectDecodable(): void {
  const handler = { path: '/', type: 'unary', deserialize: () => undefined }
  const call: unknown = Reflect.construct(BaseServerInterceptingCall, [new PassThrough(), {}, null, handler, {}])
  innermost(call)
}

/**
 * Has each message of a call decompressed and decoded in a turn of its caller's, as `take` gives them, and not at all where `isWanted`
 * says no by then. By itself grpc-js does so in nobody's turn, and a thousand times what was sent may come of it (gzip).
 */
export function decodeInTurns(
  call: ServerInterceptingCallInterface,
  take: (work: () => void) => void,
  isWanted: () => boolean,
): void {
  const decoding = innermost(call)
  decoding.decompressAndMaybePush = arrived =>
    take(() => {
      if (isWanted()) decode(decoding, arrived)
    })
}

function innermost(call: unknown): Innermost {
  if (typeof call !== 'object' || call === null || !isInnermost(call))
    throw new Error('grpc-js decodes messages elsewhere by now')
  return call
}

function isInnermost(call: object): call is Innermost {
  return (
    'decompressAndMaybePush' in call &&
    'maybePushNextMessage' in call &&
    'incomingEncoding' in call &&
    'maxReceiveMessageSize' in call &&
    'handler' in call &&
    isRecord(call.handler) &&
    typeof call.handler['deserialize'] === 'function'
  )
}

/** What is wrong is said in grpc-js's words, which `refusals.ts` knows. */
function decode(call: Innermost, arrived: Arrived): void {
  const refuse = (code: status, details: string) => call.sendStatus({ code, details, metadata: null })
  const contents = arrived.compressedMessage.subarray(5)
  const isCompressed = arrived.compressedMessage.readUInt8(0) === 1 && contents.length > 0
  const decompress = isCompressed ? decompressions.get(call.incomingEncoding) : asItIs
  if (decompress === undefined) return refuse(status.UNIMPLEMENTED, 'an encoding that is not served')
  let bytes: Buffer
  try {
    bytes = decompress(contents, { maxOutputLength: call.maxReceiveMessageSize })
  } catch (error) {
    if (codeOf(error) === 'ERR_BUFFER_TOO_LARGE') refuse(status.RESOURCE_EXHAUSTED, 'decompresses to a larger size')
    else refuse(status.INTERNAL, 'Failed to decompress message')
    return
  }
  try {
    arrived.parsedMessage = call.handler.deserialize(bytes)
  } catch {
    return refuse(status.INTERNAL, 'Error deserializing request')
  }
  arrived.type = 'READABLE'
  call.maybePushNextMessage()
}

type Decompress = (contents: Buffer, limit: { readonly maxOutputLength: number }) => Buffer

const asItIs: Decompress = contents => contents

/** By their names in `grpc-encoding`. */
const decompressions: ReadonlyMap<string, Decompress> = new Map([
  ['identity', asItIs],
  ['deflate', inflateSync],
  ['gzip', gunzipSync],
])
