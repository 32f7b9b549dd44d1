import { InvalidArgumentError } from 'commander'
import type { DefineCommand } from '../config.js'
import { TapKind } from '../gen/ovs/bridge/v1/tap.js'
import type { TapStats } from '../gen/ovs/bridge/v1/watch.js'
import { addServerOptions, type ServerOptions } from './server.js'
import { exitHelp, follow, parseCount, withService } from './service.js'
import { bitRate, table } from './table.js'

interface Options extends ServerOptions {
  readonly bridge?: string
  /** Milliseconds, once parsed. */
  readonly interval?: number
  readonly count?: number
}

const defaultIntervalMs = 1_000

/** `ovs-bridged top`: the bandwidth of taps, as it is. */
export const defineTop: DefineCommand = (program, choose) => {
  addServerOptions(
    program
      .command('top')
      .description('show the bandwidth of taps over the last 10 looks, in bit/s, the busiest first, until interrupted')
      .option('--bridge <name>', 'only taps of this bridge')
      .option('--interval <seconds>', 'between two looks, 0.2 to 3600 (default: 1)', parseIntervalMs)
      .option('-c, --count <looks>', 'end after so many', parseCount),
  )
    .addHelpText('after', exitHelp())
    .action((options: Options) => choose(() => top(options)))
}

function parseIntervalMs(text: string): number {
  const ms = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Math.round(Number(text) * 1_000) : 0
  if (ms < 200 || ms > 3_600_000) throw new InvalidArgumentError('It is not 0.2 to 3600.')
  return ms
}

function top({ bridge = '', interval = defaultIntervalMs, count = Infinity, ...server }: Options): Promise<number> {
  return withService('top', server, client => {
    const [seconds, nanos] = [BigInt(Math.floor(interval / 1_000)), (interval % 1_000) * 1_000_000]
    const request = { bridge, kind: TapKind.UNSPECIFIED, taps: [], interval: { seconds, nanos } }
    const clear = process.stdout.isTTY ? '\x1b[H\x1b[2J' : ''
    let looks = 0
    let taps: TapStats[] = []
    return follow(client.watchTapStats(request), 'the first counters', ({ stats, more }) => {
      taps.push(...stats)
      if (more) return true
      process.stdout.write(`${clear}${shown(taps, process.stdout.rows)}${clear === '' ? '\n' : ''}`)
      taps = []
      return ++looks < count
    })
  })
}

/** The busiest first; on a terminal no more of them than there are lines. One that does not know its size has 0. */
function shown(stats: readonly TapStats[], rows = 0): string {
  const load = (tap: TapStats) => tap.rxBytesPerSecond + tap.txBytesPerSecond
  const most = rows === 0 ? undefined : Math.max(1, rows - 2)
  const busiest = stats.toSorted((one, other) => load(other) - load(one)).slice(0, most)
  const lines = busiest.map(({ tap, bridge, intervals, rxBytesPerSecond, txBytesPerSecond, rxDropped, txDropped }) => [
    tap,
    bridge || '-',
    ...[rxBytesPerSecond, txBytesPerSecond].map(rate => (intervals === 0 ? '-' : bitRate(rate))),
    String(rxDropped + txDropped),
  ])
  return table(['TAP', 'BRIDGE', 'RX', 'TX', 'DROPPED'], lines)
}
