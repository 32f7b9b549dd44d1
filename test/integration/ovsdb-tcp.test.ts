import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { laneTest } from '../support/lane.js'
import { addBridge, contents, freshContents, openOvs } from '../support/ovs-client.js'
import { startOvsdbServer } from '../support/ovsdb-server.js'
import { soon } from '../support/until.js'

/** One that nobody listens on; the lane has a network of its own. */
async function freePort(host: string): Promise<number> {
  const server = createServer().listen(0, host)
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  assert.ok(typeof address === 'object' && address !== null)
  return address.port
}

for (const [host, written] of [
  ['127.0.0.1', '127.0.0.1'],
  ['::1', '[::1]'],
] as const) {
  laneTest(`a server is followed over TCP, on ${host}`, { only: 'userspace' }, async () => {
    await using server = await startOvsdbServer()
    const port = await freePort(host)
    const listen = () => server.appctl('ovsdb-server/add-remote', `ptcp:${port}:${written}`)
    await listen()
    await using client = openOvs({ endpoint: { kind: 'tcp', host, port } })
    await client.ready(soon())
    await addBridge(client, 'br0')
    await server.vsctl('add-br', 'br1')
    await client.waitFor(replica => replica.find('Bridge', 'name', 'br1'), soon())
    assert.deepEqual(contents(client), await freshContents(server))
    await server.kill()
    await client.waitFor(() => (client.status.state === 'waiting' ? true : undefined), soon())
    await server.start()
    await server.vsctl('del-br', 'br1')
    await listen()
    await client.ready(soon())
    assert.deepEqual(contents(client), await freshContents(server))
  })
}
