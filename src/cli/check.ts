import type { DefineCommand } from '../config.js'
import { CheckOvsResponse, type Dependency } from '../gen/ovs/bridge/v1/check.js'
import { addServerOptions, type ServerOptions } from './server.js'
import { ask, exit, exitHelp, withService } from './service.js'
import { painted, table } from './table.js'
import { waitedFor } from './waiting.js'

interface Options extends ServerOptions {
  readonly json?: true
}

/** `ovs-bridged check`: what is missing, and how to mend it. */
export const defineCheck: DefineCommand = (program, choose) => {
  addServerOptions(
    program
      .command('check')
      .description('tell what the service rests on, what is missing, and how to mend it')
      .option('--json', 'CheckOvsResponse as JSON'),
  )
    .addHelpText('after', exitHelp(', or something is missing without which nothing works'))
    .action((options: Options) => choose(() => check(options)))
}

/** Done when all is there without which nothing works. */
function check({ json, ...server }: Options): Promise<number> {
  return withService('check', server, async client => {
    const found = await waitedFor('the service', ask(client, client.checkOvs, {}))
    process.stdout.write(json ? `${JSON.stringify(CheckOvsResponse.toJSON(found), null, 2)}\n` : told(found))
    const works = found.ovsdbConnected && found.vswitchdAnswers
    return works && found.dependencies.every(({ present, required }) => present || !required) ? exit.done : exit.failed
  })
}

function told(found: CheckOvsResponse): string {
  const { ovsVersion, dbVersion, datapathType, ovsdbConnected, vswitchdAnswers } = found
  const heads = ['THING', 'VERSION', 'STATE']
  const rows = found.dependencies.map(dependency => [dependency.name, dependency.version, stateOf(dependency)])
  const lines = [
    `Open vSwitch ${ovsVersion || 'of unknown version'}, schema ${dbVersion || 'unknown'}, datapath ${datapathType}`,
    ...(ovsdbConnected ? [] : [painted('ovsdb-server is not connected', 'red')]),
    ...(vswitchdAnswers ? [] : [painted('ovs-vswitchd does not answer', 'red')]),
  ]
  const warnings = found.warnings.map(warning => `${painted('warning', 'yellow')}: ${warning}\n`)
  return `${lines.join('\n')}\n\n${table(heads, rows)}${warnings.join('')}`
}

function stateOf({ present, required, remedy }: Dependency): string {
  if (present) return painted('there', 'green')
  return `${required ? painted('MISSING', 'red') : painted('missing', 'yellow')}: ${remedy}`
}
