import {
  type CallOptions,
  Client,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceDefinition,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { BadRequest, ErrorInfo } from '../../src/gen/google/rpc/error_details.js'
import { Status } from '../../src/gen/google/rpc/status.js'
import { HealthCheckResponse_ServingStatus, HealthClient } from '../../src/gen/grpc/health/v1/health.js'
import { BridgeServiceService } from '../../src/gen/ovs/bridge/v1/service.js'
import { CreateTapRequest } from '../../src/gen/ovs/bridge/v1/tap.js'
import { lane } from './lane.js'
import { patienceMs, within } from './until.js'

type Methods = typeof BridgeServiceService

type Request<M> = M extends MethodDefinition<infer R, infer _> ? R : never
type Response<M> = M extends MethodDefinition<infer _, infer R> ? R : never

/** The user-mode kernel is some ten times slower. */
const defaultTimeoutMs = lane === 'kernel' ? 120_000 : 30_000

/** A tap of CreateTaps that asks for nothing. */
export const blankTap: CreateTapRequest = CreateTapRequest.fromPartial({})

/** One function an RPC: takes the fields that matter, answers with the response or throws an {@link RpcError}. */
export type Api = {
  readonly [K in keyof Methods]: Methods[K]['responseStream'] extends true
    ? (request?: Partial<Request<Methods[K]>>) => RpcStream<Response<Methods[K]>>
    : (request?: Partial<Request<Methods[K]>>, options?: UnaryOptions) => Promise<Response<Methods[K]>>
}

/** A server's stream of messages, read one by one: what is not read is held back. Disposing it cancels the call. */
export interface RpcStream<R> extends Disposable {
  /** The next message; rejects with an {@link RpcError}, also when the server has ended, or after `deadlineMs` (20 s). */
  next(what?: string, deadlineMs?: number): Promise<R>
}

/** A call that was refused, with its google.rpc details taken apart. */
export class RpcError extends Error {
  override readonly name = 'RpcError'
  readonly code: keyof typeof status
  /** ErrorInfo.reason; empty without. */
  readonly reason: string
  /** Fields of BadRequest, with their descriptions. */
  readonly violations: Readonly<Record<string, string>>

  constructor(cause: ServiceError) {
    super(cause.details, { cause })
    const [packed] = cause.metadata.get('grpc-status-details-bin')
    const details = packed instanceof Buffer ? Status.decode(packed).details : []
    const find = (type: string) => details.find(detail => detail.typeUrl.endsWith(`/google.rpc.${type}`))?.value
    const info = find('ErrorInfo')
    const bad = find('BadRequest')
    this.code = nameOf(cause.code)
    this.reason = info === undefined ? '' : ErrorInfo.decode(info).reason
    const violations = bad === undefined ? [] : BadRequest.decode(bad).fieldViolations
    this.violations = Object.fromEntries(violations.map(({ field, description }) => [field, description]))
  }
}

function nameOf(code: status): keyof typeof status {
  const found = Object.entries(status).find(([, value]) => value === code)?.[0]
  if (found === undefined || !(found in status)) throw new Error(`no gRPC status ${code}`)
  return found as keyof typeof status
}

/** A client of the service at `address`, as grpc-js spells it. Disposing it closes the connection. */
export interface Connection extends Disposable {
  readonly api: Api
  readonly client: Client
}

/** Clients of one address share a connection, unless one is to have its own. */
export function connectTo(address: string, { own = false }: { readonly own?: boolean } = {}): Connection {
  const client = new Client(address, credentials.createInsecure(), own ? { 'grpc.use_local_subchannel_pool': 1 } : {})
  const service: ServiceDefinition = BridgeServiceService
  const api = Object.fromEntries(
    Object.entries(service).map(([name, method]) => [
      name,
      (method.responseStream ? serverStream : unary)(client, method),
    ]),
  )
  return { api: api as Api, client, [Symbol.dispose]: () => client.close() }
}

/** How long the caller waits, and what has it cancel the call. */
interface UnaryOptions {
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

function unary(client: Client, method: ServiceDefinition[string]) {
  return (request: object = {}, { timeoutMs = defaultTimeoutMs, signal }: UnaryOptions = {}) =>
    new Promise<unknown>((resolve, reject) => {
      const options: CallOptions = { deadline: Date.now() + timeoutMs }
      const sent = client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        completed(method, request),
        new Metadata(),
        options,
        (error, response) => {
          if (error === null) resolve(response)
          else reject(new RpcError(error))
        },
      )
      signal?.addEventListener('abort', () => sent.cancel(), { once: true })
    })
}

/** What grpc.health.v1.Health says of the whole server. */
export async function isServing(address: string): Promise<boolean> {
  const client = new HealthClient(address, credentials.createInsecure())
  try {
    return await new Promise((resolve, reject) => {
      client.check({ service: '' }, (error, response) => {
        if (error === null) resolve(response.status === HealthCheckResponse_ServingStatus.SERVING)
        else reject(new RpcError(error))
      })
    })
  } finally {
    client.close()
  }
}

function serverStream(client: Client, method: ServiceDefinition[string]) {
  return (request: object = {}): RpcStream<unknown> => {
    const { path, requestSerialize, responseDeserialize } = method
    const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, completed(method, request))
    // What ends a stream that nobody reads any more is nobody's failure.
    call.on('error', () => {})
    const messages: AsyncIterator<unknown, unknown> = call[Symbol.asyncIterator]()
    return {
      next: async (what = `a message of ${path}`, deadlineMs = patienceMs) => {
        const { done, value } = await within(what, deadlineMs, messages.next()).catch((error: unknown) => {
          throw isServiceError(error) ? new RpcError(error) : error
        })
        if (done === true) throw new Error(`the server ended the stream instead: ${what}`)
        return value
      },
      [Symbol.dispose]: () => call.cancel(),
    }
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && 'code' in error && 'metadata' in error
}

/** The fields that are not given are as proto3 has them. */
function completed(method: ServiceDefinition[string], request: object): unknown {
  const defaults: unknown = method.requestDeserialize(Buffer.alloc(0))
  return Object.assign({}, defaults, request)
}
