import { type DaemonProcess, spawnDaemon } from '../../test/support/daemon-process.js'
import { connectTo } from '../../test/support/rpc.js'
import { type Bench, type Settings, tapNames, timed } from '../bench.js'
import { fill, profilingFlags, type Served, withService } from '../world.js'

export const restart: Bench = {
  name: 'restart',
  about: 'the start of a daemon that finds 2,000 taps of its own, after kill -9',
  async run(settings) {
    const count = settings.smoke ? 20 : 2_000
    const [none, many] = [await startsWith(settings, 0), await startsWith(settings, count)]
    const what = 'restart: from the start of the program to an answered call'
    return [
      { name: `${what}, ${count} taps`, unit: 'ms', ours: many, aim: { kind: 'value', atMost: 2_000 } },
      { name: `${what}, no taps`, unit: 'ms', ours: none },
    ]
  },
}

/** Milliseconds of each start. */
function startsWith(settings: Settings, count: number): Promise<number[]> {
  return withService(settings, async served => {
    const taps = tapNames(count)
    await fill(served, taps)
    await served.daemon.end('SIGKILL')
    const startsMs: number[] = []
    for (let round = 0; round < settings.rounds; round++) startsMs.push(await startOnce(settings, served, taps))
    return startsMs
  })
}

async function startOnce(settings: Settings, { ovs }: Served, taps: readonly string[]): Promise<number> {
  let daemon: DaemonProcess | undefined
  try {
    return await timed(async () => {
      daemon = await spawnDaemon(ovs, { flags: ['--default-bridge', 'br0'], nodeFlags: profilingFlags(settings) })
      using connection = connectTo(daemon.address)
      const [tap] = taps.slice(-1)
      await (tap === undefined ? connection.api.listBridges() : connection.api.getTap({ tap }))
    })
  } finally {
    // Only a process that ends by itself writes its profile.
    await daemon?.end(settings.profileDirectory === undefined ? 'SIGKILL' : 'SIGTERM')
    await daemon?.[Symbol.asyncDispose]()
  }
}
