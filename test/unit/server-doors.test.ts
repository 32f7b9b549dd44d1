import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import {
  type ChannelCredentials,
  Client,
  credentials,
  type Server,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { pino } from 'pino'
import { tapNotFound } from '../../src/bridge/problem.js'
import { descriptors } from '../../src/gen/descriptors.js'
import { BridgeServiceService } from '../../src/gen/ovs/bridge/v1/service.js'
import { Calls } from '../../src/server/call.js'
import { includesRole, type Role, roles } from '../../src/server/door.js'
import { createHealth } from '../../src/server/health.js'
import { listen } from '../../src/server/listen.js'
import { createReflection, serveReflection } from '../../src/server/reflection.js'
import { bridgeRoles, isAudited, roleOfMethod } from '../../src/server/role.js'
import { clientCredentials, createAuthority, roleUri } from '../support/certificates.js'
import { listeningSocket } from '../support/listening-socket.js'
import { door, tlsDoor } from '../support/server-rig.js'

const service: ServiceDefinition = BridgeServiceService
const reflection = createReflection(descriptors)
const methods = Object.entries(service).map(([key, method]) => ({ ...method, key }))

test('every RPC has a role', () => {
  assert.deepEqual(Object.keys(bridgeRoles).sort(), Object.keys(BridgeServiceService).sort())
})

test('what looks is for viewers, payload is for capture, the ways out of the host are for admins', () => {
  for (const { key, path } of methods) {
    const role = roleOfMethod(path)
    const looks = /^(?:get|list|check|report|watch)/.test(key)
    const isForAdmins = /Unmanaged|All|Config|Trunk|Tunnel/.test(key) && !looks
    const isPayload = key.endsWith('Capture')
    const expected = looks ? 'viewer' : isForAdmins ? 'admin' : isPayload ? 'capture' : 'operator'
    assert.equal(role, expected, key)
    assert.equal(isAudited(path), !looks, key)
  }
})

test('a method that is not known may be called by nobody', () => {
  assert.equal(roleOfMethod('/ovs.bridge.v1.BridgeService/Nonsense'), undefined)
  assert.equal(roleOfMethod('/grpc.channelz.v1.Channelz/GetServers'), undefined)
})

/** Answers every RPC in the same way: whoever hears NOT_FOUND was let in. */
function registerAll(server: Server, calls: Calls): void {
  const refuse = async (): Promise<never> => {
    throw tapNotFound('x')
  }
  const refuseStream = async function* (): AsyncGenerator<never> {
    yield await refuse()
  }
  const handlers: UntypedServiceImplementation = {}
  for (const { key, responseStream } of methods) {
    handlers[key] = responseStream ? calls.serverStream(refuseStream) : calls.unary(refuse)
  }
  server.addService(service, handlers)
  const health = createHealth([])
  health.report(true)
  health.addTo(server)
  serveReflection(server, reflection)
}

/** What a call with an empty request is answered with. */
function codeOf(client: Client, path: string, isStream: boolean): Promise<status> {
  const empty = () => Buffer.alloc(0)
  const options = { deadline: Date.now() + 20_000 }
  return new Promise(resolve => {
    if (isStream) {
      const stream = client.makeServerStreamRequest(path, empty, () => 0, 0, options)
      stream.on('error', () => {}).on('status', ({ code }) => resolve(code))
      stream.resume()
    } else
      client.makeUnaryRequest(
        path,
        empty,
        () => 0,
        0,
        options,
        error => resolve(error?.code ?? status.OK),
      )
  })
}

/** What a stream of no requests is answered with. */
function codeOfReflection(client: Client, path: string): Promise<status> {
  return new Promise(resolve => {
    const nothing = () => Buffer.alloc(0)
    const stream = client.makeBidiStreamRequest(path, nothing, () => 0, { deadline: Date.now() + 20_000 })
    stream.on('error', () => {}).on('status', ({ code }) => resolve(code))
    stream.resume()
    stream.end()
  })
}

const directory = mkdtempSync(join(tmpdir(), 'doors-'))
const authority = createAuthority()
after(() => {
  authority[Symbol.dispose]()
  rmSync(directory, { recursive: true })
})

/** One door of each kind for each role, all of one server. */
async function openDoors() {
  const server = authority.issue('server')
  const log = pino({ level: 'silent' })
  const calls = new Calls({ log })
  const inherited = new Map(roles.map(role => [role, [listeningSocket(join(directory, `passed-${role}`))]]))
  const doors = roles.flatMap(role => [
    door(`unix:${directory}/${role},role=${role}`),
    door(`127.0.0.1:0,role=${role}`),
    door(`systemd:${role},role=${role}`),
    tlsDoor(`127.0.0.1:0,role=${role}`),
  ])
  const certificates = { ...server, clientCa: authority.ca }
  const register = (grpc: Server) => registerAll(grpc, calls)
  const listening = await listen({
    doors,
    register,
    roleOf: roleOfMethod,
    calls,
    drainTimeoutMs: 1_000,
    log,
    certificates,
    inherited,
  })
  return {
    listening,
    addressOf: (role: Role, kind: number) => listening.addresses[roles.indexOf(role) * 4 + kind] ?? '',
  }
}

async function expectTable(address: string, creds: ChannelCredentials, has: Role | undefined): Promise<void> {
  const client = new Client(address, creds)
  const expectOne = async ({ key, path, responseStream }: (typeof methods)[number]) => {
    const needed = roleOfMethod(path)
    const refused = has === undefined ? status.UNAUTHENTICATED : status.PERMISSION_DENIED
    const allowed = has !== undefined && needed !== undefined && includesRole(has, needed)
    const code = await codeOf(client, path, responseStream)
    assert.equal(
      status[code],
      status[allowed ? status.NOT_FOUND : refused],
      `${key} for ${has ?? 'nobody'} at ${address}`,
    )
  }
  await Promise.all(methods.map(expectOne))
  const openToAll = has === undefined ? status.UNAUTHENTICATED : status.OK
  assert.equal(await codeOf(client, '/grpc.health.v1.Health/Check', false), openToAll)
  for (const version of ['v1', 'v1alpha']) {
    const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`
    assert.equal(await codeOfReflection(client, path), openToAll)
  }
  client.close()
}

test('every RPC, for every role, at every door: let in or refused', async () => {
  const { listening, addressOf } = await openDoors()
  await using _listening = listening
  const plain = credentials.createInsecure()
  for (const role of roles) {
    await expectTable(addressOf(role, 0), plain, role)
    await expectTable(addressOf(role, 1), plain, role)
    await expectTable(`unix:${directory}/passed-${role}`, plain, role)
  }
  const certificates = roles.map(role => ({ role, issued: authority.issue(role, roleUri(role)) }))
  for (const bound of roles) {
    for (const { role, issued } of certificates) {
      // A door is a bound, whatever a certificate says.
      const has = includesRole(bound, role) ? role : bound
      await expectTable(addressOf(bound, 3), clientCredentials(authority, issued), has)
    }
  }
  const admin = clientCredentials(authority, authority.issue('root', roleUri('viewer'), roleUri('admin')))
  await expectTable(addressOf('admin', 3), admin, 'admin')
  const nobody = clientCredentials(authority, authority.issue('nobody', 'urn:somebody:else', roleUri('emperor')))
  for (const bound of roles) await expectTable(addressOf(bound, 3), nobody, undefined)
})
