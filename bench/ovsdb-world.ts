import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { schema, type Tables } from '../src/gen/vswitch.js'
import { type Columns, newTransaction } from '../src/ovsdb/index.js'
import { openOvs, root } from '../test/support/ovs-client.js'
import { type PrivateOvsdbServer, startOvsdbServer, vswitchSchema } from '../test/support/ovsdb-server.js'
import { soon } from '../test/support/until.js'
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
  const { stdout } = await run(program, args, { timeout: 600_000 })
  return JSON.parse(stdout) as SideResult
}

/** `bare`: as `ovs-vsctl --no-wait add-port` leaves them; `filled`: as ovs-vswitchd and this service would have filled them in. */
export type Ports = 'bare' | 'filled'

/** An ovsdb-server alone, with a bridge of so many ports. */
export async function serverWithPorts(count: number, ports: Ports): Promise<PrivateOvsdbServer> {
  const server = await startOvsdbServer()
  await using client = openOvs(server)
  await client.ready(soon())
  const tx = newTransaction(schema)
  const inserted = Array.from({ length: count }, (_, i) => {
    const name = `tap${i}`
    const [port, device] = ports === 'filled' ? filled(i, name) : [{}, {}]
    const interfaces = [tx.insert('Interface', { name, ...device })]
    return tx.insert('Port', { name, interfaces, tag: i % 4000, ...port })
  })
  tx.mutate('Open_vSwitch', root(client), 'bridges', 'insert', [tx.insert('Bridge', { name: 'br0', ports: inserted })])
  await client.transact(tx, { signal: AbortSignal.timeout(300_000) })
  return server
}

function filled(i: number, name: string): [Columns<Tables['Port']>, Columns<Tables['Interface']>] {
  const external_ids = new Map([
    ['attached-mac', '52:54:00:00:00:01'],
    ['ovs-bridged:tap', name],
  ])
  const states = { admin_state: 'up', link_state: 'up' } as const
  return [{ external_ids }, { ofport: (i % 65_000) + 1, ...states, mtu: 1500, statistics, status }]
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
