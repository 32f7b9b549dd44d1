import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { output } from '../support/command.js'
import { laneTest } from '../support/lane.js'
import { checkout } from '../support/readme.js'
import { startService } from '../support/service.js'
import { startTestbed } from '../support/testbed.js'

// What other programs make of the contract does not depend on the datapath. Programs are slow to start on a busy machine.
const userspace = { only: 'userspace', timeoutMs: 85_000 } as const

const inCheckout = (path: string) => fileURLToPath(new URL(path, checkout))

laneTest("Debian's Python client takes a tap through its life", userspace, async context => {
  const stubs = mkdtempSync(join(tmpdir(), 'stubs-'))
  context.after(() => rmSync(stubs, { recursive: true }))
  const protos = readdirSync(inCheckout('proto/ovs/bridge/v1')).map(name => `ovs/bridge/v1/${name}`)
  const rpcProtos = ['google/rpc/status.proto', 'google/rpc/error_details.proto']
  const python = (script: string, ...args: readonly string[]) =>
    output(context.signal, '/usr/bin/python3', inCheckout(`test/clients/${script}`), ...args)
  await python('make_stubs.py', inCheckout('src/gen/descriptors.binpb'), stubs, ...protos, ...rpcProtos)

  await using bed = await startTestbed(context.signal)
  const service = bed.use(await startService(bed))
  assert.deepEqual(JSON.parse(await python('lifecycle.py', service.address, stubs)), {
    bridge: 'lab',
    tap: ['vm1', 'lab', 10, 'TAP_STATE_ACTIVE'],
    again: ['ALREADY_EXISTS', 'NAME_TAKEN'],
    listed: { all: ['vm1'], untagged: [], 'vlan 10': ['vm1'] },
    left: [],
  })
})

laneTest(
  'buf curl takes a tap through its life, knowing the contract by reflection alone',
  userspace,
  async context => {
    await using bed = await startTestbed(context.signal)
    const service = bed.use(await startService(bed))
    const plain = [
      '--protocol',
      'grpc',
      '--http2-prior-knowledge',
      '--unix-socket',
      service.address.replace('unix:', ''),
    ]
    const call = async (method: string, request: object): Promise<unknown> => {
      const url = `http://localhost/ovs.bridge.v1.BridgeService/${method}`
      const body = JSON.stringify(request)
      return JSON.parse(
        await output(context.signal, 'node_modules/.bin/buf', 'curl', ...plain, '--reflect', '-d', body, url),
      )
    }
    await call('EnsureBridge', { bridge: 'lab' })
    await call('CreateTap', { bridge: 'lab', tap: 'vm1', vlan: 10 })
    const vm1 = { name: 'vm1', bridge: 'lab', vlan: 10, kind: 'TAP_KIND_TUNTAP', state: 'TAP_STATE_ACTIVE', mtu: 1500 }
    assert.deepEqual(await call('ListTaps', {}), { taps: [vm1] })
    await call('DestroyTap', { tap: 'vm1' })
    await call('DestroyBridge', { bridge: 'lab' })
    assert.deepEqual(await call('ListTaps', {}), {})
  },
)
