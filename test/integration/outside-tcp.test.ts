import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { laneTest } from '../support/lane.js'
import { addAddress } from '../support/links.js'
import { ping } from '../support/ping.js'
import { startServedTestbed } from '../support/service.js'
import { within } from '../support/until.js'

/** The parts of iperf3's JSON that are looked at; iperf3(1). */
interface IperfReport {
  readonly error?: string
  readonly end: { readonly sum_received: { readonly bytes: number; readonly bits_per_second: number } }
}

laneTest('a TCP connection between two containers carries bulk data', {}, async context => {
  await using bed = await startServedTestbed(context.signal)
  const [red, blue] = [bed.createContainer('red'), bed.createContainer('blue')]
  await bed.api.createContainerTap({ tap: 'red', netns: red.path, vlan: 10 })
  await bed.api.createContainerTap({ tap: 'blue', netns: blue.path, vlan: 10 })
  red.run(() => addAddress('veth0', '10.0.0.1/24'))
  blue.run(() => addAddress('veth0', '10.0.0.2/24'))
  await ping(red, '10.0.0.2')

  const iperf3 = (...args: readonly string[]): ChildProcess => {
    const child = spawn('iperf3', args, { stdio: ['ignore', 'pipe', 'inherit'] })
    bed.use({ [Symbol.dispose]: () => void child.kill('SIGKILL') })
    return child
  }
  const server = blue.run(() => iperf3('--server', '--one-off', '--forceflush'))
  await within('iperf3 listens', 20_000, said(server, 'listening'))
  const client = red.run(() => iperf3('--client', '10.0.0.2', '--time', '1', '--json'))
  const report = JSON.parse(await within('iperf3 is done', 40_000, said(client))) as IperfReport
  assert.equal(report.error, undefined)
  const { bytes, bits_per_second: bitsPerSecond } = report.end.sum_received
  context.diagnostic(`${(bitsPerSecond / 1e9).toFixed(2)} Gbit/s of TCP between two containers`)
  // Where offloads go wrong only retransmitted crumbs get through: kilobytes.
  assert(bytes > 4 * 2 ** 20, `${bytes} bytes were received`)
})

/** Standard output up to where it holds `text`, or all of it. */
async function said(child: ChildProcess, text?: string): Promise<string> {
  let all = ''
  const found = new Promise<void>(resolve => {
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      all += chunk
      if (text !== undefined && all.includes(text)) resolve()
    })
  })
  await Promise.race([found, once(child, 'close')])
  if (text !== undefined && !all.includes(text)) throw new Error(`it ended without ${text}: ${all}`)
  return all
}
