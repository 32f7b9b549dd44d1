import { InvalidArgumentError } from 'commander'
import type { DefineCommand } from '../config.js'
import { AddressSource, TapKind } from '../gen/ovs/bridge/v1/tap.js'
import { AddressEvent, AddressEventType } from '../gen/ovs/bridge/v1/watch.js'
import { addServerOptions, type ServerOptions } from './server.js'
import { exitHelp, follow, parseCount, repeated, withService } from './service.js'

interface Options extends ServerOptions {
  readonly bridge?: string
  readonly tap?: readonly string[]
  readonly vlan?: number
  readonly count?: number
  readonly json?: true
}

/** `ovs-bridged watch addresses`: who is behind which tap, as it becomes known. */
export const defineWatch: DefineCommand = (program, choose) => {
  addServerOptions(
    program
      .command('watch')
      .description('tell what happens, as it happens, until interrupted')
      .addHelpText('after', exitHelp())
      .command('addresses')
      .description('addresses behind taps: those that are known, then what becomes of them')
      .option('--bridge <name>', 'only taps of this bridge')
      .option('--tap <name>', 'only this tap; may be repeated', repeated)
      .option('--vlan <id>', 'only addresses seen in this VLAN, 0: untagged', parseVlan)
      .option('-c, --count <events>', 'end after so many', parseCount)
      .option('--json', 'AddressEvent as JSON, one a line; {"reset":true} where all that was told is void'),
  )
    .addHelpText('after', exitHelp())
    .action((options: Options) => choose(() => watchAddresses(options)))
}

function parseVlan(text: string): number {
  if (!/^\d{1,4}$/.test(text) || Number(text) > 4095) throw new InvalidArgumentError('It is not 0 to 4095.')
  return Number(text)
}

function watchAddresses({ bridge = '', tap = [], vlan, count = Infinity, json, ...server }: Options): Promise<number> {
  const filter = { bridge, kind: TapKind.UNSPECIFIED, taps: [...tap], ...(vlan === undefined ? {} : { vlan }) }
  return withService('watch addresses', server, client => {
    let left = count
    return follow(
      client.watchAddresses({ ...filter, epoch: '', revision: 0n }),
      'the addresses',
      ({ reset, events }) => {
        const told = events.slice(0, left)
        left -= told.length
        for (const line of (json ? jsonLines : textLines)(reset, told)) process.stdout.write(`${line}\n`)
        return left > 0
      },
    )
  })
}

function jsonLines(reset: boolean, events: readonly AddressEvent[]): readonly string[] {
  return [...(reset ? ['{"reset":true}'] : []), ...events.map(event => JSON.stringify(AddressEvent.toJSON(event)))]
}

function textLines(reset: boolean, events: readonly AddressEvent[]): readonly string[] {
  return [...(reset ? ['reset: what was told is void'] : []), ...events.map(sentence)]
}

function sentence({ type, tap, bridge, address, otherTap }: AddressEvent): string {
  const what = (AddressEventType[type] ?? String(type)).toLowerCase()
  const source = AddressSource[address?.source ?? AddressSource.UNSPECIFIED] ?? ''
  const where = `${tap}${bridge === '' ? '' : ` on ${bridge}`}, VLAN ${address?.vlan ?? 0}`
  const whose = otherTap === '' ? '' : `, and behind ${otherTap}`
  return `${what} ${address?.ip ?? ''} (${address?.mac ?? ''}, ${source}) behind ${where}${whose}`
}
