import type { DefineCommand } from '../config.js'
import { Bridge } from '../gen/ovs/bridge/v1/bridge.js'
import type { Qos } from '../gen/ovs/bridge/v1/qos.js'
import type { BridgeServiceClient } from '../gen/ovs/bridge/v1/service.js'
import { Tap, TapKind, TapState } from '../gen/ovs/bridge/v1/tap.js'
import { addServerOptions, type ServerOptions } from './server.js'
import { allPages, ask, exit, exitHelp, withService } from './service.js'
import { table } from './table.js'
import { waitedFor } from './waiting.js'

interface Options extends ServerOptions {
  readonly json?: true
}

/** `ovs-bridged ls`: bridges and taps. */
export const defineList: DefineCommand = (program, choose) => {
  addServerOptions(
    program
      .command('ls')
      .description('list bridges and taps')
      .option('--json', 'Bridge and Tap as JSON, in lists called bridges and taps'),
  )
    .addHelpText('after', exitHelp())
    .action((options: Options) => choose(() => list(options)))
}

function list({ json, ...server }: Options): Promise<number> {
  return withService('ls', server, async client => {
    const { bridges, taps } = await waitedFor('the service', inventoryOf(client))
    const text = json
      ? JSON.stringify({ bridges: bridges.map(Bridge.toJSON), taps: taps.map(Tap.toJSON) }, null, 2)
      : `${bridgeTable(bridges)}\n${tapTable(taps)}`.trimEnd()
    process.stdout.write(`${text}\n`)
    return exit.done
  })
}

/** Every managed bridge, and every tap that is not defunct, each ordered by name. */
export async function inventoryOf(
  client: BridgeServiceClient,
): Promise<{ readonly bridges: readonly Bridge[]; readonly taps: readonly Tap[] }> {
  const bridges = await allPages(async pageToken => {
    const page = await ask(client, client.listBridges, { pageSize: 0, pageToken })
    return { items: page.bridges, nextPageToken: page.nextPageToken }
  })
  const taps = await allPages(async pageToken => {
    const request = { bridge: '', kind: TapKind.UNSPECIFIED, includeDefunct: false, pageSize: 0, pageToken }
    const page = await ask(client, client.listTaps, request)
    return { items: page.taps, nextPageToken: page.nextPageToken }
  })
  return { bridges, taps }
}

function bridgeTable(bridges: readonly Bridge[]): string {
  const rows = bridges.map(({ name, datapathType, vlans, trunks, tunnels, bonds, mirrors }) => [
    name,
    datapathType,
    ...[vlans, trunks, tunnels, bonds.map(bond => bond.name), mirrors].map(all => all.join(',') || '-'),
  ])
  return table(['BRIDGE', 'DATAPATH', 'VLANS', 'TRUNKS', 'TUNNELS', 'BONDS', 'MIRRORS'], rows)
}

function tapTable(taps: readonly Tap[]): string {
  const rows = taps.map(({ name, bridge, vlan, kind, state, mac, ip4, ip6, qos }) => [
    name,
    bridge || '-',
    String(vlan),
    (TapKind[kind] ?? String(kind)).toLowerCase(),
    (TapState[state] ?? String(state)).toLowerCase(),
    mac || '-',
    ip4 || '-',
    ip6 || '-',
    qosText(qos),
  ])
  return table(['TAP', 'BRIDGE', 'VLAN', 'KIND', 'STATE', 'MAC', 'IPV4', 'IPV6', 'QOS'], rows)
}

function qosText(qos: Qos | undefined): string {
  const set = Object.entries(qos ?? {}).filter(([, value]) => typeof value === 'string' && value !== '')
  return set.map(([name, value]) => `${name} ${String(value)}`).join(', ') || '-'
}
