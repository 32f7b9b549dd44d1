import {
  createFileRegistry,
  type DescFile,
  type DescMessage,
  type FileRegistry,
  fromBinary,
  toBinary,
} from '@bufbuild/protobuf'
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import { type Server, type ServerDuplexStream, status } from '@grpc/grpc-js'
import {
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  ServerReflectionService,
} from '../gen/grpc/reflection/v1/reflection.js'
import { ServerReflectionService as ServerReflectionAlphaService } from '../gen/grpc/reflection/v1alpha/reflection.js'
import { assertNever } from '../lib/assert-never.js'
import { remembered } from '../lib/remembered.js'

/** What a set of .proto files declares, as reflection is asked for it. */
export interface Reflection {
  /** Answers one question of gRPC's server reflection protocol; v1 and v1alpha are the same but for the package's name. */
  answer(request: ServerReflectionRequest): ServerReflectionResponse
}

type Answer = NonNullable<ServerReflectionResponse['messageResponse']>

/**
 * Answers from a serialised google.protobuf.FileDescriptorSet, given in base64; every service in it counts as served. It is
 * indexed when the first question comes: the service starts in half the time without.
 */
export function createReflection(descriptors: string): Reflection {
  let index: Index | undefined
  return {
    answer: request => {
      index ??= indexOf(descriptors)
      return {
        validHost: request.host,
        originalRequest: request,
        messageResponse: reply(index, request.messageRequest),
      }
    },
  }
}

interface Index {
  readonly registry: FileRegistry
  /** By its full name, where it is declared. */
  readonly symbols: ReadonlyMap<string, DescFile>
  /** In their order. */
  readonly services: readonly string[]
  readonly encode: (file: DescFile) => Buffer
}

function indexOf(descriptors: string): Index {
  const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, Buffer.from(descriptors, 'base64')))
  const encode = remembered((file: DescFile) => Buffer.from(toBinary(FileDescriptorProtoSchema, file.proto)))
  const symbols = new Map<string, DescFile>()
  const services: string[] = []
  for (const file of registry.files) {
    for (const name of symbolsOf(file)) symbols.set(name, file)
    services.push(...file.services.map(service => service.typeName))
  }
  return { registry, symbols, services: services.sort(), encode }
}

function reply(index: Index, question: ServerReflectionRequest['messageRequest']): Answer {
  const { registry, symbols, services, encode } = index
  switch (question?.$case) {
    case 'fileByFilename':
      return files(registry.getFile(question.value), encode, `file ${question.value}`)
    case 'fileContainingSymbol':
      return files(symbols.get(question.value), encode, `symbol ${question.value}`)
    case 'fileContainingExtension': {
      const { containingType, extensionNumber } = question.value
      return notFound(`extension ${extensionNumber} of ${containingType}`)
    }
    case 'allExtensionNumbersOfType': {
      const baseTypeName = question.value
      if (registry.getMessage(baseTypeName) === undefined) return notFound(`message ${baseTypeName}`)
      return { $case: 'allExtensionNumbersResponse', value: { baseTypeName, extensionNumber: [] } }
    }
    case 'listServices':
      return { $case: 'listServicesResponse', value: { service: services.map(name => ({ name })) } }
    case undefined:
      return refusal(status.INVALID_ARGUMENT, 'the request asks nothing')
    default:
      return assertNever(question)
  }
}

/** Adds both versions of the reflection service to a server. */
export function serveReflection(server: Server, reflection: Reflection): void {
  const serverReflectionInfo = (call: ServerDuplexStream<ServerReflectionRequest, ServerReflectionResponse>) => {
    call.on('data', (request: ServerReflectionRequest) => {
      if (call.write(reflection.answer(request))) return
      call.pause()
      call.once('drain', () => call.resume())
    })
    call.on('end', () => call.end())
  }
  server.addService(ServerReflectionService, { serverReflectionInfo })
  server.addService(ServerReflectionAlphaService, { serverReflectionInfo })
}

/** The file and all that it imports, each before its imports: a reader that goes backwards knows every import already. */
function files(file: DescFile | undefined, encode: (file: DescFile) => Buffer, wanted: string): Answer {
  if (file === undefined) return notFound(wanted)
  const found = new Set<DescFile>()
  const visit = (one: DescFile) => {
    if (found.has(one)) return
    for (const dependency of one.dependencies) visit(dependency)
    found.add(one)
  }
  visit(file)
  const importersFirst = [...found].reverse()
  return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto: importersFirst.map(encode) } }
}

function notFound(what: string): Answer {
  return refusal(status.NOT_FOUND, `${what} is not known here`)
}

function refusal(errorCode: status, errorMessage: string): Answer {
  return { $case: 'errorResponse', value: { errorCode, errorMessage } }
}

/** Fully qualified names of all that a file declares. Values of an enum are named beside it, not under it. */
function* symbolsOf(file: DescFile): Generator<string> {
  for (const message of file.messages) yield* symbolsOfMessage(message)
  for (const service of file.services) {
    yield service.typeName
    for (const method of service.methods) yield `${service.typeName}.${method.name}`
  }
  const scope = file.proto.package === '' ? '' : `${file.proto.package}.`
  for (const declared of file.enums) {
    yield declared.typeName
    for (const value of declared.values) yield `${scope}${value.name}`
  }
}

function* symbolsOfMessage(message: DescMessage): Generator<string> {
  yield message.typeName
  for (const field of message.fields) yield `${message.typeName}.${field.name}`
  for (const oneof of message.oneofs) yield `${message.typeName}.${oneof.name}`
  for (const declared of message.nestedEnums) {
    yield declared.typeName
    for (const value of declared.values) yield `${message.typeName}.${value.name}`
  }
  for (const nested of message.nestedMessages) yield* symbolsOfMessage(nested)
}
