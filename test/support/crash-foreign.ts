import { execFileSync } from 'node:child_process'
import { isRecord } from '../../src/lib/json-rpc.js'
import { devicesOf, lendingBridge, type Owned, sharedBridge, strayBridgeOf } from './crash-owned.js'
import { items, mapOf, textOf } from './crash-rows.js'
import { insertPort } from './foreign-port.js'
import { createVethPair, findLink } from './links.js'
import type { Namespace } from './namespace.js'
import { addForeignBridge } from './ovs.js'
import { listQueueing } from './qos.js'
import type { Testbed } from './testbed.js'

/** Devices of somebody else's: two are ports of the bridge that all put taps on, the third none. */
const [plugged, internal, loose] = ['foreign0', 'foreign1', 'foreign2']
const mark = ['map', [['owner', 'foreign']]]

/**
 * What somebody else has made beside what is called for, and on the same bridge: ports, QoS with a queue, a mirror, NetFlow,
 * settings, and queueing disciplines.
 */
export async function settleForeigners(bed: Testbed, container: Namespace): Promise<void> {
  for (const name of [plugged, loose]) createVethPair({ name }, { name }, container)
  await addForeignBridge(bed.ovs, sharedBridge, [
    { name: plugged, tag: 5 },
    { name: internal, type: 'internal', tag: 6 },
  ])
  await addForeignBridge(bed.ovs, lendingBridge, [])
  const ofBridge = [['name', '==', sharedBridge]]
  const [port] = await bed.ovs.select('Port', [['name', '==', plugged]])
  const [output] = await bed.ovs.select('Port', [['name', '==', internal]])
  await bed.ovs.configure(
    { op: 'insert', table: 'Queue', 'uuid-name': 'queue', row: { external_ids: mark } },
    // Of another type ovs-vswitchd would take the port's queueing disciplines away.
    {
      op: 'insert',
      table: 'QoS',
      'uuid-name': 'qos',
      row: { type: 'linux-noop', queues: ['map', [[0, ['named-uuid', 'queue']]]], external_ids: mark },
    },
    { op: 'insert', table: 'QoS', row: { type: 'linux-htb', external_ids: mark } },
    {
      op: 'update',
      table: 'Port',
      where: [['name', '==', plugged]],
      row: { qos: ['named-uuid', 'qos'], external_ids: mark },
    },
    {
      op: 'insert',
      table: 'Mirror',
      'uuid-name': 'mirror',
      row: {
        name: 'foreign-mirror',
        select_src_port: port?.['_uuid'],
        output_port: output?.['_uuid'],
        external_ids: mark,
      },
    },
    {
      op: 'insert',
      table: 'NetFlow',
      'uuid-name': 'netflow',
      row: { targets: '127.0.0.1:2055', active_timeout: 7, external_ids: mark },
    },
    {
      op: 'update',
      table: 'Bridge',
      where: ofBridge,
      row: {
        netflow: ['named-uuid', 'netflow'],
        other_config: ['map', [['mac-aging-time', '77']]],
        external_ids: mark,
      },
    },
    { op: 'mutate', table: 'Bridge', where: ofBridge, mutations: [['mirrors', 'insert', ['named-uuid', 'mirror']]] },
  )
  const tc = (...words: readonly string[]) => execFileSync('tc', ['qdisc', 'add', 'dev', ...words])
  tc(plugged, 'root', 'pfifo', 'limit', '9')
  tc(loose, 'root', 'pfifo', 'limit', '7')
  tc(loose, 'ingress')
}

/** Whether somebody else has set what the device receives through. */
export function hasForeignIngress(device: string): boolean {
  return device === loose
}

/** All that is of others, to be the same ever after. */
export async function foreignState(bed: Testbed): Promise<unknown> {
  const { Bridge: bridges = [], Open_vSwitch: _, ...tables } = await bed.ovs.dump()
  const rows = Object.values(tables)
    .flat()
    .filter(row => JSON.stringify(row).includes('foreign'))
  const names = [plugged, internal, loose]
  const links = [...names, sharedBridge, lendingBridge].map(name => {
    const link = findLink(name)
    const { index = 0, alias, up } = link ?? {}
    // That of a bridge has the least of its ports' MTUs, and one of their MACs.
    const more = names.includes(name) ? [link?.mac, link?.mtuBytes, link?.promiscuous] : []
    return [name, index, alias, up, ...more, listQueueing().get(index)?.raw]
  })
  return { rows, bridges: bridges.filter(isRecord).flatMap(foreignBridge), links }
}

/** A bridge of others without what we add to it: ports, and marks of our own. */
function foreignBridge(row: Readonly<Record<string, unknown>>): readonly object[] {
  const name = textOf(row['name'])
  if (name !== sharedBridge && name !== lendingBridge) return []
  const { ports, external_ids, ...columns } = row
  const isForeign = (port: unknown) => String(port).includes('foreign')
  const marks = [...mapOf(external_ids)].filter(([key]) => !key.startsWith('ovs-bridged:'))
  return [{ ...columns, ports: items(ports).filter(isForeign), external_ids: marks }]
}

/** Has each caller find the port again that it may take over, unless it is a tap, and the bridge that it may destroy. */
export async function lendAgain(
  bed: Testbed,
  container: Namespace,
  callers: readonly { readonly number: number; readonly owned: Owned }[],
): Promise<void> {
  for (const { number, owned } of callers) {
    const stray = strayBridgeOf({ number })
    const [bridge] = await bed.ovs.select('Bridge', [['name', '==', stray]])
    if (bridge === undefined) await addForeignBridge(bed.ovs, stray, [])
    const { lent: name } = devicesOf({ number })
    if (owned.taps[name] !== undefined) continue
    if (findLink(name) === undefined) createVethPair({ name }, { name }, container)
    const [port] = await bed.ovs.select('Port', [['name', '==', name]])
    if (port === undefined) await bed.ovs.configure(...insertPort(lendingBridge, name, { tag: 7 }))
  }
}
