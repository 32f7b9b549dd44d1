import type { DefineCommand } from '../config.js'
import { type Drift, DriftKind, ReportDriftResponse } from '../gen/ovs/bridge/v1/drift.js'
import { addServerOptions, type ServerOptions } from './server.js'
import { ask, exit, exitHelp, withService } from './service.js'
import { painted, table } from './table.js'
import { waitedFor } from './waiting.js'

interface Options extends ServerOptions {
  readonly bridge?: string
  readonly json?: true
}

/** `ovs-bridged drift`: where Open vSwitch and the kernel differ from what is recorded. */
export const defineDrift: DefineCommand = (program, choose) => {
  addServerOptions(
    program
      .command('drift')
      .description('tell where Open vSwitch and the kernel differ from what the service has recorded')
      .option('--bridge <name>', 'only ports of this bridge')
      .option('--json', 'ReportDriftResponse as JSON'),
  )
    .addHelpText('after', exitHelp('', '\n  3 something differs'))
    .action((options: Options) => choose(() => drift(options)))
}

function drift({ bridge = '', json, ...server }: Options): Promise<number> {
  return withService('drift', server, async client => {
    const report = await waitedFor('the service', ask(client, client.reportDrift, { bridge }))
    process.stdout.write(
      json ? `${JSON.stringify(ReportDriftResponse.toJSON(report), null, 2)}\n` : told(report.drifts),
    )
    return report.drifts.length === 0 ? exit.done : exit.differs
  })
}

function told(drifts: readonly Drift[]): string {
  if (drifts.length === 0) return `${painted('all is as recorded', 'green')}\n`
  const rows = drifts.map(({ port, bridge, kind, intended, actual }) => [
    port,
    bridge || '-',
    (DriftKind[kind] ?? String(kind)).toLowerCase().replaceAll('_', ' '),
    intended || '-',
    actual || '-',
  ])
  return table(['PORT', 'BRIDGE', 'DRIFT', 'RECORDED', 'FOUND'], rows)
}
