import { schema } from '../../src/gen/vswitch.js'
import { openOvsdb } from '../../src/ovsdb/index.js'

const [path = '/var/run/openvswitch/db.sock'] = process.argv.slice(2)

await using client = openOvsdb({
  endpoint: { kind: 'unix', path },
  schema,
  monitor: { Bridge: ['name', 'ports'], Port: ['name', 'tag'] },
})
await client.ready(AbortSignal.timeout(10_000))

for (const bridge of client.replica.rows('Bridge')) {
  const ports = bridge.ports.map(uuid => client.replica.get('Port', uuid))
  console.log(`${bridge.name}: ${ports.map(port => `${port?.name} (VLAN ${port?.tag ?? 0})`).join(', ')}`)
}

// By an index of the schema, and the way back along a reference: both without a walk over the rows.
const port = client.replica.find('Port', 'name', 'tap0')
if (port !== undefined) {
  for (const bridge of client.replica.referrers('Bridge', 'ports', port._uuid)) console.log(`tap0 is on ${bridge.name}`)
}
