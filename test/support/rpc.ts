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

type Methods = typeof BridgeServiceService

type Request<M> = M extends MethodDefinition<infer R, infer _> ? R : never
type Response<M> = M extends MethodDefinition<infer _, infer R> ? R : never

/** One function an RPC: takes the fields that matter, answers with the response or throws an {@link RpcError}. */
export type Api = {
  readonly [K in keyof Methods]: (
    request?: Partial<Request<Methods[K]>>,
    options?: { readonly timeoutMs?: number },
  ) => Promise<Response<Methods[K]>>
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

export function connectTo(address: string): Connection {
  const client = new Client(address, credentials.createInsecure())
  const service: ServiceDefinition = BridgeServiceService
  const api = Object.fromEntries(Object.entries(service).map(([name, method]) => [name, unary(client, method)]))
  return { api: api as Api, client, [Symbol.dispose]: () => client.close() }
}

function unary(client: Client, method: ServiceDefinition[string]) {
  return (request: object = {}, { timeoutMs = 30_000 }: { readonly timeoutMs?: number } = {}) =>
    new Promise<unknown>((resolve, reject) => {
      const defaults: unknown = method.requestDeserialize(Buffer.alloc(0))
      const options: CallOptions = { deadline: Date.now() + timeoutMs }
      const message: unknown = Object.assign({}, defaults, request)
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        message,
        new Metadata(),
        options,
        (error, response) => {
          if (error === null) resolve(response)
          else reject(new RpcError(error))
        },
      )
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
