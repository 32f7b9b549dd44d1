import { schema, type Tables } from '../../src/gen/vswitch.js'
import { carryOut, openOvsdb, type Recipe, type Replicated, type Uuid } from '../../src/ovsdb/index.js'

const [path = '/var/run/openvswitch/db.sock'] = process.argv.slice(2)
const monitor = { Bridge: ['name', 'ports'], Port: ['name', 'tag'] } as const
type View = Replicated<Tables, typeof monitor>

await using client = openOvsdb({ endpoint: { kind: 'unix', path }, schema, monitor, lock: 'example' })

client.subscribe(changes => {
  for (const change of changes) {
    const row = change.kind === 'delete' ? change.before : change.after
    console.log(`${change.kind} ${change.table} ${row.name}`)
  }
})

const addTap1: Recipe<Tables, View, Uuid> = {
  // Runs again, from the replica as it then is, when somebody else was faster.
  write(transaction, replica) {
    const bridge = replica.find('Bridge', 'name', 'br0')
    if (bridge === undefined) throw new Error('there is no br0')
    transaction.wait('Bridge', bridge._uuid, { name: 'br0' })
    const made = transaction.insert('Interface', { name: 'tap1', type: 'internal' })
    const port = transaction.insert('Port', { name: 'tap1', interfaces: [made], tag: 20 })
    transaction.mutate('Bridge', bridge._uuid, 'ports', 'insert', [port])
    return committed => committed.uuid(port)
  },
  // Asked when the answer was lost with the connection: is the change there, or must it be made again?
  find: replica => replica.find('Port', 'name', 'tap1')?._uuid,
}

const uuid = await carryOut(client, addTap1, { signal: AbortSignal.timeout(10_000) })
console.log(`tap1 has VLAN ${client.replica.get('Port', uuid)?.tag}`)
