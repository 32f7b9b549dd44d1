import assert from 'node:assert/strict'
import { test } from 'node:test'
import { banner } from '../../src/banner.js'

const said = (...addresses: readonly string[]) =>
  banner({
    version: '1.2.3',
    addresses,
    plaintext: addresses,
    ovs: 'its own',
    metricsUrl: 'http://[::1]:7/metrics',
  }).split('\n')

test('a unix socket is dialled by its path', () => {
  const lines = said('unix:/run/x.sock', '127.0.0.1:5')
  assert.deepEqual(lines.slice(0, 4), [
    'ovs-bridged 1.2.3',
    '  listens on    unix:/run/x.sock, 127.0.0.1:5',
    '  Open vSwitch  its own',
    '  metrics       http://[::1]:7/metrics',
  ])
  const buf = 'npx buf curl --protocol grpc --http2-prior-knowledge --unix-socket /run/x.sock'
  const service = 'ovs.bridge.v1.BridgeService'
  assert(lines.includes(`  ${buf} -d '{}' http://localhost/${service}/EnsureBridge`))
  assert(lines.includes(`  grpcurl -plaintext -d '{}' unix:///run/x.sock ${service}/ListTaps`))
})

test('a TCP address is dialled as it is', () => {
  const lines = said('[::1]:5')
  const service = 'ovs.bridge.v1.BridgeService'
  const buf = 'npx buf curl --protocol grpc --http2-prior-knowledge'
  assert(lines.includes(`  ${buf} -d '{"vlan":10}' 'http://[::1]:5/${service}/CreateTap'`))
  assert(lines.includes(`  grpcurl -plaintext -d '{"vlan":10}' '[::1]:5' ${service}/CreateTap`))
})

test('a path that a shell would take apart is quoted', () => {
  assert(said("unix:/tmp/it's one").some(line => line.includes("--unix-socket '/tmp/it'\\''s one' ")))
})

test('where all doors take certificates no call is suggested', () => {
  const addresses = ['10.0.0.1:5']
  const text = banner({ version: '1.2.3', addresses, plaintext: [], ovs: 'its own', metricsUrl: undefined })
  assert.doesNotMatch(text, /curl/)
})

test('where systemd alone listens for the daemon no call is suggested', () => {
  const text = banner({
    version: '1.2.3',
    addresses: ['systemd:main'],
    plaintext: ['systemd:main'],
    ovs: 'its own',
    metricsUrl: undefined,
  })
  assert.doesNotMatch(text, /curl/)
})
