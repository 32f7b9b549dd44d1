import { AddressEventType } from '../../src/gen/ovs/bridge/v1/watch.js'
import { arp as arpFrame } from '../../test/support/address-frames.js'
import { startArpFlood } from '../../test/support/arp-flood.js'
import { type FrameSocket, openTap } from '../../test/support/frame-socket.js'
import type { RpcStream } from '../../test/support/rpc.js'
import { until } from '../../test/support/until.js'
import { type Bench, type Figure, quantile, type Settings, tapNames, timed } from '../bench.js'
import { fill, type Served, withService } from '../world.js'

const floodPerSecond = 100_000

export const arp: Bench = {
  name: 'arp',
  about: 'an ARP request in a tap, until a subscriber of WatchAddresses has its address; also while another tap floods',
  run: settings => withService(settings, served => measure(settings, served)),
}

async function measure(settings: Settings, served: Served): Promise<Figure[]> {
  const taps = tapNames(settings.smoke ? 2 : 50)
  const noisy = 'b999'
  await fill(served, [...taps, noisy])
  using subscriber = await subscribe(served, taps)
  const machines = taps.map(openTap)
  try {
    const count = settings.smoke ? 10 : 2_000
    const quiet: number[][] = []
    for (let round = 0; round < settings.rounds; round++) {
      quiet.push(await delaysMs(count, machines, taps, subscriber))
    }
    const loud: number[][] = []
    const calls: number[][] = []
    await using flood = startArpFlood(noisy, floodPerSecond)
    await until('the flood is under way', () => flood.sent > floodPerSecond / 10)
    for (let round = 0; round < settings.rounds; round++) {
      loud.push(await delaysMs(count, machines, taps, subscriber))
      const call: number[] = []
      for (let i = 0; i < count; i++) call.push(await timed(() => served.api.getTap({ tap: noisy })))
      calls.push(call)
    }
    return [...figures(quiet), ...figuresAmidFlood(loud, calls)]
  } finally {
    for (const machine of machines) machine[Symbol.dispose]()
  }
}

function figures(quiet: readonly number[][]): Figure[] {
  return [
    { name: 'arp: until the event, p50', unit: 'ms', ours: shares(quiet, 0.5) },
    { name: 'arp: until the event, p99', unit: 'ms', ours: shares(quiet, 0.99), aim: { kind: 'value', atMost: 5 } },
  ]
}

function figuresAmidFlood(loud: readonly number[][], calls: readonly number[][]): Figure[] {
  const amid = `while another tap sends ${floodPerSecond} ARP/s`
  return [
    {
      name: `arp: until the event ${amid}, most`,
      unit: 'ms',
      ours: shares(loud, 1),
      aim: { kind: 'value', atMost: 1_000 },
    },
    {
      name: `arp: GetTap ${amid}, p99`,
      unit: 'ms',
      ours: shares(calls, 0.99),
      aim: { kind: 'value', atMost: 50 },
    },
  ]
}

function shares(rounds: readonly number[][], share: number): number[] {
  return rounds.map(samples => quantile(samples, share))
}

interface Subscriber extends Disposable {
  /** Resolves when it was told that the address has this MAC. */
  learns(mac: string): Promise<void>
}

async function subscribe({ api }: Served, taps: string[]): Promise<Subscriber> {
  const stream: RpcStream<{ readonly synced: boolean; readonly events: readonly Event[] }> = api.watchAddresses({
    taps,
  })
  while (!(await stream.next()).synced);
  return {
    learns: async mac => {
      for (;;) {
        const { events } = await stream.next(`an event of ${mac}`)
        if (events.some(({ type, address }) => type === AddressEventType.LEARNED && address?.mac === mac)) return
      }
    },
    [Symbol.dispose]: () => stream[Symbol.dispose](),
  }
}

interface Event {
  readonly type: AddressEventType
  readonly address?: { readonly mac: string } | undefined
}

let frames = 0

/** Each tap has one address, that moves from one MAC to the next: so it is news, and never one too many. */
async function delaysMs(
  count: number,
  machines: readonly FrameSocket[],
  taps: readonly string[],
  subscriber: Subscriber,
): Promise<number[]> {
  const samples: number[] = []
  for (let i = 0; i < count; i++) {
    const index = i % taps.length
    const source = `02:00:00:${octet(++frames >> 16)}:${octet(frames >> 8)}:${octet(frames)}`
    const frame = arpFrame({ source, ip: `10.0.0.${index + 1}` })
    samples.push(
      await timed(() => {
        const told = subscriber.learns(source)
        machines[index]?.send(frame)
        return told
      }),
    )
  }
  return samples
}

function octet(value: number): string {
  return (value & 0xff).toString(16).padStart(2, '0')
}
