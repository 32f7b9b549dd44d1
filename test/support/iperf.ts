import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Namespace } from './namespace.js'
import { within } from './until.js'

/** A flow of UDP at a steady rate, from one namespace to another; iperf3(1). */
export interface Flow extends AsyncDisposable {
  /** Ends it; resolves to what iperf3 itself says. */
  end(): Promise<Sent>
}

export interface Sent {
  readonly seconds: number
  /** Of payload. */
  readonly bytesPerSecond: number
}

type Place = Pick<Namespace, 'run'>

interface IperfReport {
  readonly end: { readonly sum_sent: { readonly seconds: number; readonly bits_per_second: number } }
}

/** Resolves when the flow has begun. `megabits` of payload a second, in datagrams of `payloadBytes`. */
export async function startFlow(
  from: Place,
  to: Place,
  {
    address,
    megabits,
    payloadBytes,
  }: { readonly address: string; readonly megabits: number; readonly payloadBytes: number },
): Promise<Flow> {
  const server = to.run(() => iperf3('--server', '--one-off', '--forceflush'))
  await within('iperf3 listens', 30_000, said(server, 'listening'))
  const rate = ['--udp', '--bitrate', `${megabits}M`, '--length', String(payloadBytes)]
  const client = from.run(() => iperf3('--client', address, ...rate, '--time', '600', '--json'))
  const report = collect(client)
  await within('iperf3 is connected', 30_000, said(server, 'connected to'))
  return {
    end: async () => {
      client.kill('SIGINT')
      const { end } = JSON.parse(await within('the report of iperf3', 30_000, report)) as IperfReport
      const { seconds, bits_per_second } = end.sum_sent
      return { seconds, bytesPerSecond: bits_per_second / 8 }
    },
    [Symbol.asyncDispose]: async () => {
      for (const child of [client, server]) {
        child.kill('SIGKILL')
        if (child.exitCode === null && child.signalCode === null) await once(child, 'close')
      }
    },
  }
}

function iperf3(...args: readonly string[]): ChildProcess {
  return spawn('iperf3', args, { stdio: ['ignore', 'pipe', 'ignore'] })
}

/** Resolves when standard output holds `text`. */
async function said(child: ChildProcess, text: string): Promise<void> {
  let all = ''
  await new Promise<void>((resolve, reject) => {
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      all += chunk
      if (all.includes(text)) resolve()
    })
    child.once('close', () => reject(new Error(`iperf3 ended without ${text}: ${all}`)))
  })
}

/** All of its standard output, once it has ended. */
async function collect(child: ChildProcess): Promise<string> {
  let all = ''
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    all += chunk
  })
  await once(child, 'close')
  return all
}
