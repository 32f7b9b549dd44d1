import assert from 'node:assert/strict'
import { test } from 'node:test'
import { create, createFileRegistry, fromBinary } from '@bufbuild/protobuf'
import { FileDescriptorProtoSchema, FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'
import { status } from '@grpc/grpc-js'
import { descriptors } from '../../src/gen/descriptors.js'
import type { ServerReflectionRequest } from '../../src/gen/grpc/reflection/v1/reflection.js'
import { createReflection } from '../../src/server/reflection.js'

const reflection = createReflection(descriptors)

function ask(messageRequest: ServerReflectionRequest['messageRequest']) {
  return reflection.answer({ host: 'h', messageRequest }).messageResponse
}

/** The files that come for a symbol; undefined when none do. */
function filesFor(symbol: string) {
  const answer = ask({ $case: 'fileContainingSymbol', value: symbol })
  if (answer?.$case !== 'fileDescriptorResponse') return undefined
  return answer.value.fileDescriptorProto.map(bytes => fromBinary(FileDescriptorProtoSchema, bytes))
}

test('all services are listed, those of gRPC itself too', () => {
  const answer = ask({ $case: 'listServices', value: '*' })
  assert.equal(answer?.$case, 'listServicesResponse')
  assert.deepEqual(
    answer.value.service.map(({ name }) => name),
    [
      'grpc.health.v1.Health',
      'grpc.reflection.v1.ServerReflection',
      'grpc.reflection.v1alpha.ServerReflection',
      'ovs.bridge.v1.BridgeService',
    ],
  )
})

test('an answer carries the question', () => {
  const question: ServerReflectionRequest = { host: 'h', messageRequest: { $case: 'listServices', value: '*' } }
  const { validHost, originalRequest } = reflection.answer(question)
  assert.deepEqual({ validHost, originalRequest }, { validHost: 'h', originalRequest: question })
})

for (const [what, symbol, file] of [
  ['a service', 'ovs.bridge.v1.BridgeService', 'ovs/bridge/v1/service.proto'],
  ['a method', 'ovs.bridge.v1.BridgeService.CreateTap', 'ovs/bridge/v1/service.proto'],
  ['a message', 'ovs.bridge.v1.Tap', 'ovs/bridge/v1/tap.proto'],
  ['a field', 'ovs.bridge.v1.Tap.vlan', 'ovs/bridge/v1/tap.proto'],
  ['an enum', 'ovs.bridge.v1.TapKind', 'ovs/bridge/v1/tap.proto'],
  ['a value of an enum', 'ovs.bridge.v1.TAP_KIND_HOST', 'ovs/bridge/v1/tap.proto'],
  ['a nested enum', 'grpc.health.v1.HealthCheckResponse.ServingStatus', 'grpc/health/v1/health.proto'],
  ['a value of a nested enum', 'grpc.health.v1.HealthCheckResponse.SERVING', 'grpc/health/v1/health.proto'],
  ['a nested message', 'google.rpc.BadRequest.FieldViolation', 'google/rpc/error_details.proto'],
  ['an import of protobuf itself', 'google.protobuf.Any', 'google/protobuf/any.proto'],
] as const) {
  test(`${what} is found by its name`, () => {
    assert.equal(filesFor(symbol)?.[0]?.name, file)
  })
}

test('a file comes with all that it imports, so that it can be read alone', () => {
  const file = filesFor('ovs.bridge.v1.BridgeService')
  assert(file)
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file: file.toReversed() }))
  assert.equal(registry.getMessage('ovs.bridge.v1.Bridge')?.field['config']?.fieldKind, 'map')
})

test('a file is found by its name', () => {
  const answer = ask({ $case: 'fileByFilename', value: 'google/rpc/status.proto' })
  assert.equal(answer?.$case, 'fileDescriptorResponse')
})

test('our own files keep their comments', () => {
  assert((filesFor('ovs.bridge.v1.Tap')?.[0]?.sourceCodeInfo?.location.length ?? 0) > 0)
})

for (const [what, question] of [
  ['symbol', { $case: 'fileContainingSymbol', value: 'ovs.bridge.v1.Nonsense' }],
  ['file', { $case: 'fileByFilename', value: 'no/such.proto' }],
  [
    'extension',
    { $case: 'fileContainingExtension', value: { containingType: 'ovs.bridge.v1.Tap', extensionNumber: 1 } },
  ],
  ['extended message', { $case: 'allExtensionNumbersOfType', value: 'ovs.bridge.v1.Nonsense' }],
] as const) {
  test(`an unknown ${what} is NOT_FOUND, and the stream goes on`, () => {
    const answer = ask(question)
    assert.equal(answer?.$case, 'errorResponse')
    assert.equal(answer.value.errorCode, status.NOT_FOUND)
  })
}
