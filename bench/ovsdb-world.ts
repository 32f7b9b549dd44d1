import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { schema } from '../src/gen/vswitch.js'
import { newTransaction } from '../src/ovsdb/index.js'
import { openOvs, root, soon } from '../test/support/ovs-client.js'
import { type PrivateOvsdbServer, startOvsdbServer, vswitchSchema } from '../test/support/ovsdb-server.js'
import type { SideResult } from './ovsdb-sides.js'

const run = promisify(execFile)
const sides = fileURLToPath(new URL('ovsdb-sides.js', import.meta.url))

/** A side that runs on Node.js, in a process of its own. */
export function nodeSide(side: string, server: PrivateOvsdbServer, count = 0, inFlight = 0): Promise<SideResult> {
  return resultOf('node', '--expose-gc', sides, side, server.socketPath, `${count}`, `${inFlight}`)
}

/** A side that runs on Debian's own Python, for which python3-openvswitch is. */
export function pythonSide(side: 'load' | 'transact', server: PrivateOvsdbServer, count = 0): Promise<SideResult> {
  return resultOf('/usr/bin/python3', 'bench/ovsdb_idl.py', side, vswitchSchema, server.socketPath, `${count}`)
}

async function resultOf(program: string, ...args: readonly string[]): Promise<SideResult> {
  const { stdout } = await run(program, args)
  return JSON.parse(stdout) as SideResult
}

/** An ovsdb-server alone, with a bridge of so many ports as ovs-vswitchd would have filled them in. */
export async function serverWithPorts(count: number): Promise<PrivateOvsdbServer> {
  const server = await startOvsdbServer()
  await using client = openOvs(server)
  await client.ready(soon())
  const tx = newTransaction(schema)
  const ports = Array.from({ length: count }, (_, i) => {
    const name = `tap${i}`
    const interfaces = [
      tx.insert('Interface', {
        name,
        ofport: (i % 65_000) + 1,
        admin_state: 'up',
        link_state: 'up',
        mtu: 1500,
        statistics,
        status,
      }),
    ]
    const external_ids = new Map([
      ['attached-mac', '52:54:00:00:00:01'],
      ['ovs-bridged:tap', name],
    ])
    return tx.insert('Port', { name, interfaces, tag: i % 4000, external_ids })
  })
  tx.mutate('Open_vSwitch', root(client), 'bridges', 'insert', [tx.insert('Bridge', { name: 'br0', ports })])
  await client.transact(tx, { signal: AbortSignal.timeout(300_000) })
  return server
}

const statistics = new Map(
  [
    'collisions',
    'rx_bytes',
    'rx_crc_err',
    'rx_dropped',
    'rx_errors',
    'rx_packets',
    'tx_bytes',
    'tx_dropped',
    'tx_errors',
    'tx_packets',
  ].map((counter, i) => [counter, i * 1_234_567]),
)
const status = new Map([
  ['driver_name', 'tun'],
  ['driver_version', '1.6'],
  ['firmware_version', ''],
])
