import assert from 'node:assert/strict'
import { test } from 'node:test'
import { credentials, Metadata, status } from '@grpc/grpc-js'
import {
  type HealthCheckResponse,
  HealthClient,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from '../../src/gen/grpc/health/v1/health.js'
import { createHealth } from '../../src/server/health.js'
import { startRig } from '../support/server-rig.js'

async function startHealth() {
  const health = createHealth(['test.Echo'])
  const rig = await startRig(server => health.addTo(server))
  return { health, rig, client: new HealthClient(`unix:${rig.socket}`, credentials.createInsecure()) }
}

function check(client: HealthClient, service: string): Promise<ServingStatus | undefined> {
  return new Promise(resolve => client.check({ service }, (error, reply) => resolve(error ? undefined : reply.status)))
}

for (const service of ['', 'test.Echo']) {
  test(`${JSON.stringify(service)} serves when that is reported, not before`, async () => {
    const { health, rig, client } = await startHealth()
    await using _rig = rig
    assert.equal(await check(client, service), ServingStatus.NOT_SERVING)
    health.report(true)
    assert.equal(await check(client, service), ServingStatus.SERVING)
    health.report(false)
    assert.equal(await check(client, service), ServingStatus.NOT_SERVING)
    client.close()
  })
}

test('an unknown service has no status', async () => {
  const { rig, client } = await startHealth()
  await using _rig = rig
  assert.equal(await check(client, 'test.Nonsense'), undefined)
  client.close()
})

test('who asks for a service by a long name is answered, and what it asks next as well', async () => {
  const { rig, client } = await startHealth()
  await using _rig = rig
  const code = await new Promise(resolve =>
    client.check({ service: 'x'.repeat(100_000) }, new Metadata(), { deadline: Date.now() + 5_000 }, error =>
      resolve(error?.code),
    ),
  )
  assert.equal(code, status.NOT_FOUND)
  assert.equal(await check(client, ''), ServingStatus.NOT_SERVING)
  client.close()
})

test('all services are listed with their status', async () => {
  const { health, rig, client } = await startHealth()
  await using _rig = rig
  health.report(true)
  const statuses = await new Promise((resolve, reject) =>
    client.list({}, (error, reply) => (error ? reject(error) : resolve(reply.statuses))),
  )
  assert.deepEqual(statuses, { '': { status: ServingStatus.SERVING }, 'test.Echo': { status: ServingStatus.SERVING } })
  client.close()
})

test('a watcher of an unknown service hears so, and nothing more', async () => {
  const { health, rig, client } = await startHealth()
  await using _rig = rig
  const heard: ServingStatus[] = []
  const [unknown, whole] = [client.watch({ service: 'test.Nonsense' }), client.watch({ service: '' })]
  const closed = new Promise<void>(resolve => {
    unknown
      .on('error', () => {})
      .on('data', (reply: HealthCheckResponse) => {
        heard.push(reply.status)
        health.report(true)
      })
    whole
      .on('error', () => {})
      .on('data', ({ status }: HealthCheckResponse) => {
        if (status === ServingStatus.SERVING) resolve()
      })
  })
  await closed
  assert.deepEqual(heard, [ServingStatus.SERVICE_UNKNOWN])
  for (const watch of [unknown, whole]) watch.cancel()
  client.close()
})

test('a watcher hears of changes, once each', async () => {
  const { health, rig, client } = await startHealth()
  await using _rig = rig
  const heard: ServingStatus[] = []
  const watch = client.watch({ service: '' })
  watch.on('error', () => {})
  const closed = new Promise<void>(resolve => {
    watch.on('data', (reply: HealthCheckResponse) => {
      heard.push(reply.status)
      if (heard.length === 1) for (const serving of [false, true, true, false]) health.report(serving)
      if (heard.length === 3) resolve()
    })
  })
  await closed
  assert.deepEqual(heard, [ServingStatus.NOT_SERVING, ServingStatus.SERVING, ServingStatus.NOT_SERVING])
  watch.cancel()
  client.close()
})
